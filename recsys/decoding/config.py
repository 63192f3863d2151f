"""How paths are searched, and how they and an item scorer make a slate."""

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from recsys.core.config import Config
from recsys.decoding.crss import Order
from recsys.decoding.reasoning_pruning import PruningRule


class SearchConfig(Config):
    """How paths are searched."""

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
    """Weight of the item scorer in a step: 0 leaves it out, 1 takes its exact conditionals alone."""
    overdraw: PositiveInt = 2
    """Size of the pool of expansions, in multiples of the free paths, from which pruned paths are replaced."""
    codes_per_path: PositiveInt = 16
    """Number of best codes by which a path is expanded; the first step takes as many as fill the pool."""


class RankingConfig(Config):
    """How what paths reached becomes a slate."""

    item_head: bool = True
    """Whether the item scorer ranks; without it path evidence does, and only what paths reach is in the slate."""
    path_weight: NonNegativeFloat = 0.1
    """Weight of the path evidence beside the item scorer's log-probability."""
    ranked: Literal["reached", "catalogue"] = "catalogue"
    """Which items the item scorer ranks: those that paths reach, or all, where reached ones have a bonus."""

    @property
    def head_decides(self) -> bool:
        """Whether the item scorer alone orders the slate, so that paths only explain it."""
        return self.item_head and self.ranked == "catalogue" and self.path_weight == 0


class DecoderConfig(Config):
    """How histories become slates."""

    search: SearchConfig = SearchConfig()
    """How paths are searched."""
    ranking: RankingConfig = RankingConfig()
    """How what paths reached becomes a slate."""

    @property
    def reads_items(self) -> bool:
        """Whether an item scorer takes part, in the ranking or in the steps."""
        return self.ranking.item_head or self.search.guidance > 0

    def with_search(self, **settings: Any) -> "DecoderConfig":
        """Return the config with other settings of the search."""
        return self.model_copy(update={"search": self.search.model_copy(update=settings)})

    def with_ranking(self, **settings: Any) -> "DecoderConfig":
        """Return the config with other settings of the ranking."""
        return self.model_copy(update={"ranking": self.ranking.model_copy(update=settings)})


class MarginalSearchConfig(Config):
    """How paths are searched when a distribution over items decides every step, and which items are ranked."""

    num_paths: PositiveInt = 64
    """Number of paths per history, finished ones included."""
    finish_below: PositiveInt = 32
    """A path stops when at most this many items are left."""
    min_steps: PositiveInt = 2
    """Number of steps before a path may stop early, unless one item is left."""
    codebooks: tuple[int, ...] = ()
    """The codebooks that paths may take; all where none is named."""
    enough: float = Field(default=1.0, gt=0, le=1)
    """At each step no further path of a history is followed once the more probable ones hold this much probability, so
    that clear answers take few paths and open ones up to ``num_paths``; 1 always follows as many as there are."""
    fewest_paths: PositiveInt | None = None
    """With it the number of paths is a history's own, from so many to ``num_paths``: the more open the answer, the more
    (see ``perplexity_per_path``); None searches ``num_paths`` for every history."""
    perplexity_per_path: float = Field(default=16.0, gt=0)
    """The number of paths of a history is the perplexity of its distribution over items, over this."""
    corp: bool = False
    """Whether paths whose category distribution jumps are taken back one step."""
    theta: NonNegativeFloat | None = None
    """Largest JS divergence (base 2) between neighbouring steps of a consistent path; None prunes nothing."""
    pruning: PruningRule = "none"
    """Which finished paths of low probability are taken out (RPC's Reasoning Pruning): none, those below the mean, or
    those of the lower part of a mixture of two Weibull distributions."""
    ranked: Literal["reached", "catalogue"] = "reached"
    """Which items are ranked: those that paths reach, or all."""
