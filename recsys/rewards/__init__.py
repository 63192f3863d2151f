"""Rewards of a finished path, each by itself, and their weighted sum."""
