"""Token models that are normalised over the catalogue: an item's logit is the sum of its codes' logits."""
