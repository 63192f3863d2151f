"""How paths are searched, and how they and the item head make a score."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from recsys.core.config import Config
from recsys.decoding.crss import Order


class DecoderConfig(Config):
    """How paths are searched and how they and the item head make a score."""

    num_paths: PositiveInt = 32
    """Number of paths per history, finished ones included."""
    finish_below: PositiveInt = 32
    """A path stops when at most this many items are left."""
    min_steps: PositiveInt = 2
    """Number of steps before a path may stop early, unless one item is left."""
    order: Order = "crss"
    """Whether the most confident codebook is decided next (crss), or the first free one (fixed)."""
    corp: bool = True
    """Whether paths whose category distribution jumps are pruned."""
    theta: NonNegativeFloat | None = None
    """Largest JS divergence (base 2) between neighbouring steps of a consistent path; None prunes nothing."""
    guidance: float = Field(default=0.8, ge=0, le=1)
    """How much a step listens to the item head: 0 not at all, 1 the exact conditionals of its belief alone."""
    overdraw: PositiveInt = 2
    """Size of the pool of expansions, in multiples of the free paths, from which pruned paths are replaced."""
    path_weight: NonNegativeFloat = 0.1
    """Weight of the path evidence beside the item head's log-probability."""
    codes_per_path: PositiveInt = 16
    """Number of best codes by which a path is expanded; the first step takes as many as fill the pool."""
    item_head: bool = True
    """Whether the item head scores items; without it the path evidence does alone."""
    ranked: Literal["reached", "catalogue"] = "catalogue"
    """Which items the item head ranks: those that paths reach, or all, where reached ones have a bonus of evidence."""

    @property
    def head_decides(self) -> bool:
        """Whether the item head alone orders the slate, so that paths only explain it."""
        return self.item_head and self.ranked == "catalogue" and self.path_weight == 0


class BeliefSearchConfig(Config):
    """How paths are searched when a distribution over items decides every step, and which items are ranked."""

    num_paths: PositiveInt = 64
    """Number of paths per history, finished ones included."""
    finish_below: PositiveInt = 32
    """A path stops when at most this many items are left."""
    min_steps: PositiveInt = 2
    """Number of steps before a path may stop early, unless one item is left."""
    corp: bool = False
    """Whether paths whose category distribution jumps are taken back one step."""
    theta: NonNegativeFloat | None = None
    """Largest JS divergence (base 2) between neighbouring steps of a consistent path; None prunes nothing."""
    ranked: Literal["reached", "catalogue"] = "reached"
    """Which items are ranked: those that paths reach, or all."""
