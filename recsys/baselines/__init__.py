"""Rivals that are readable alone: popularity, item co-occurrence, and SASRec with a full softmax."""
