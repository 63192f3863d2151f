"""Sequences of item ids: a causal Transformer over ids alone, and the training of such a network.

It is used twice: as the baseline SASRec and as the generator's ensemble members.
"""
