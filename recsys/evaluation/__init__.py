"""Evaluation: ranking metrics with intervals, held-out splits, replay in time order, off-policy estimates, the gate."""
