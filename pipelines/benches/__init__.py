"""Measurements of ours beside a peer, in one run on one machine, as ratios."""
