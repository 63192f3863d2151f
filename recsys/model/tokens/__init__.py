"""Token models that are normalised over the catalogue: an item's logit is the sum of its codes' logits.

The network is a causal Transformer over a history, as SASRec's is, but an item's vector, on the input and on the output
side, is the sum of its codes' vectors, and no item has a vector of its own. The softmax runs over items, not over codes
as in TIGER or RPG, and an item that training never saw is ranked as soon as it has codes.

``network`` is the model, ``softmax`` its loss over a catalogue in chunks (sampled where the catalogue is large),
``fit`` its training on next items, ``distil`` its training on a teacher's probabilities (of all items after each
history), and ``mixture`` several such models with codebooks of their own as one.
"""
