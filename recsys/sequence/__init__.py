"""Sequences of item ids: a causal Transformer over ids alone, and how such a network learns.

Two read it: SASRec, the rival, and the generator's member.
"""
