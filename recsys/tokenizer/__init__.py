"""The item tokenizer: experts, codebooks, objectives, fit, quality, facets."""
