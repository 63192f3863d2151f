"""MPQ: a mixture of experts with parallel codebooks turns item vectors into tokens."""
