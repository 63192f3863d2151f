"""Evaluation: ranking metrics with intervals, leave-one-out and temporal replay for any Recommender."""
