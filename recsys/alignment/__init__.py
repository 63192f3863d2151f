"""Alignment of the generator with the rewards: prompts, rollouts, the GRPO trainer and its diagnostics."""
