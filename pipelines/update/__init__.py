"""A new day: a run that goes on from another, with new events and items and the tokenizer as it was."""
