"""All that tokenizer, model, decoding and rewards share: the code layout, the catalogue and the validity index."""
