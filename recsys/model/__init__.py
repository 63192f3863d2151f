"""The generative model: a causal encoder of histories and an any-order decoder of item tokens."""
