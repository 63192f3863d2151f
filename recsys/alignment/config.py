"""The settings of alignment."""

from typing import Literal

from pydantic import Field, model_validator

from recsys.core.config import Config


class RewardWeights(Config):
    """Weight of each reward in the total; 0 only reports it."""

    step: float = 1.0
    """Weight of the share of codes that the path has in common with the target."""
    category: float = 1.0
    """Weight of the share of steps that predict the target's category."""
    consistency: float = 1.0
    """Weight of the agreement of neighbouring category predictions."""
    path: float = 1.0
    """Weight of finding the target with the path's codewords."""


class SupervisedConfig(Config):
    """The supervised loss beside the rewards."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of the supervised loss; 0 learns from rewards alone."""
    latest_events: int = Field(default=3, ge=1)
    """How many latest events of a training window it learns."""
    shuffle_ties: float = Field(default=0.0, ge=0, le=1)
    """Share of windows in which events of equal time are put in a random order; served histories keep theirs."""
    self_distillation: float = Field(default=0.5, ge=0)
    """Weight of self-distillation from the recommender before alignment, ensemble members included, at the ends of
    whole training histories, whose next items are in no training data."""


class AlignmentConfig(Config):
    """How the generator is post-trained on the rewards."""

    method: Literal["grpo", "dpo"] = "grpo"
    """GRPO samples new paths at every step; DPO samples once and prefers each group's best path to its worst."""
    steps: int = Field(default=340, ge=0)
    """Gradient steps: the supervised loss passes twice over a log of 130,000 events. 0 leaves the model as it is."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Histories per gradient step."""
    group_size: int = Field(default=16, ge=2)
    """Paths sampled for each history (G)."""
    demonstrations: int = Field(default=0, ge=0)
    """How many places of a group are taken by the paths of the window's own items, nearest first; 0 samples all."""
    beta: float = Field(default=0.03, ge=0)
    """GRPO's weight of the divergence from the pre-trained model."""
    epsilon: float = Field(default=0.15, gt=0)
    """GRPO's clip of the probability ratio."""
    scale: Literal["group", "batch", "none"] = "group"
    """What GRPO's advantages are divided by: the deviation of the group, of all paths of the step, or nothing."""
    gradient: Literal["sum", "mean"] = "mean"
    """Whether GRPO sums the gradients of rewards and divergence over a path's choices, as the ratio of whole paths of
    the paper does, or takes their mean, which is one over the number of choices of it (trl's sequence ratio)."""
    preference_beta: float = Field(default=0.1, gt=0)
    """DPO's strength of the tie to the pre-trained model."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate stays, or falls to zero along a cosine after a warm-up of a twentieth of the steps."""
    dropout: bool = True
    """Whether training scores paths with the generator's dropout; sampling never does."""
    window: int = Field(default=3, ge=1)
    """How many next items a path is rewarded for (h)."""
    latest_events: int = Field(default=3, ge=0)
    """The target of a prompt is one of so many latest events of a user's training history; 0: any of its events."""
    rarity: float = Field(default=0.0, ge=0)
    """Prompts are drawn in proportion to the training events of their next item to the power of minus this; 0 draws
    all alike, 1 takes every item about as often."""
    decay: float = Field(default=0.5, gt=0, le=1)
    """Weight of an item of the window relative to the one before it (w); the paper has .8."""
    top_n: int = Field(default=10, ge=1)
    """Length of the search that the path reward looks into (N)."""
    guidance: float = Field(default=0.8, ge=0, le=1)
    """Weight of the item head in a sampled step, as ``decoder.search.guidance``; 0 aligns the token heads alone."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of sampling; the trained probabilities are taken at the same one."""
    prior_folds: int = Field(default=8, ge=2)
    """Number of folds of users; each is sampled with a prior counted without its own pairs."""
    probe_prompts: int = Field(default=64, ge=1)
    """Histories on which the rewards are measured before and after."""
    save_every: int = Field(default=25, ge=1)
    """Steps between checkpoints; a killed run goes on from the last."""
    weights: RewardWeights = RewardWeights()
    """Weight of each reward."""
    supervised: SupervisedConfig = SupervisedConfig()
    """The supervised loss beside the rewards."""

    @model_validator(mode="after")
    def _sampled(self) -> "AlignmentConfig":
        if self.demonstrations >= self.group_size:
            raise ValueError(
                f"alignment.demonstrations must leave a place of a group to a sampled path, got "
                f"{self.demonstrations} of {self.group_size}; lower it or raise alignment.group_size"
            )
        return self
