"""Sources of evidence about items, and how much each counts, chosen on validation.

Axes: B request, N item, W weights that are tried.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import History, ItemScores
from recsys.core.arrays import FloatArray
from recsys.core.ranking import ndcg_at
from recsys.data.splits import Questions
from recsys.sequence.validation import pessimistic_ranks, seen_items

BATCH_SIZE = 256
DEPTH = 10


class Evidence:
    """Log-probabilities of several sources, summed by two sets of weights: one searches paths, one ranks.

    Args:
        sources: what each source says about every item.
        belief: weights of the sum that decides the steps of paths; sources that are not named count 0.
        rank: weights of the sum that orders the slate.
    """

    def __init__(
        self, sources: Mapping[str, ItemScores], *, belief: Mapping[str, float], rank: Mapping[str, float]
    ) -> None:
        if unknown := (set(belief) | set(rank)) - set(sources):
            raise ValueError(f"weights must be of the sources {sorted(sources)}, got {sorted(unknown)}")
        self.belief, self.rank = dict(belief), dict(rank)
        self.sources = {name: source for name, source in sources.items() if belief.get(name) or rank.get(name)}

    def of(self, histories: Sequence[History]) -> tuple[FloatArray, FloatArray]:
        """Return the sums that search and that rank, both (histories, items)."""
        said = {name: source(histories) for name, source in self.sources.items()}
        return weighted_sum(said, self.belief), weighted_sum(said, self.rank)


def weighted_sum(said: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
    """Return the sum of arrays of one shape, each times its weight."""
    parts = [np.float32(weights[name]) * values for name, values in said.items() if weights.get(name)]
    if not parts:
        raise ValueError(f"some source of {sorted(said)} must have a weight, got {dict(weights)}")
    return np.asarray(sum(parts[1:], parts[0]), np.float32)


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Weights of sources, and the NDCG@10 that they reach, seen items removed."""

    weights: dict[str, float]
    ndcg: float


def simplex(names: Sequence[str], steps: int) -> list[dict[str, float]]:
    """Return all weights that sum to one in multiples of ``1 / steps``, those of the first name first.

    ``simplex("ab", 2)`` has the weights (1, 0), (.5, .5) and (0, 1).
    """
    shares = itertools.product(range(steps, -1, -1), repeat=len(names))
    return [
        {name: share / steps for name, share in zip(names, found, strict=True)}
        for found in shares
        if sum(found) == steps
    ]


def choose_weights(sources: Mapping[str, ItemScores], asked: Questions, *, steps: int = 10) -> list[Weighed]:
    """Return the NDCG@10 of every mixture of the sources on the simplex, the best first; ties keep the simplex's order.

    Args:
        sources: at least one; the first is the one that equals are decided for.
        asked: the users that the choice is made on.
        steps: the weights are multiples of ``1 / steps``.
    """
    tried = simplex(list(sources), steps)
    total_W = np.zeros(len(tried))
    for start in range(0, len(asked.targets_U), BATCH_SIZE):
        histories = asked.histories[start : start + BATCH_SIZE]
        targets_B = asked.targets_U[start : start + BATCH_SIZE]
        said = {name: source(histories) for name, source in sources.items()}
        seen = seen_items(histories)
        for place, weights in enumerate(tried):
            ranks_B = pessimistic_ranks(weighted_sum(said, weights), targets_B, seen)
            total_W[place] += math.fsum(ndcg_at(ranks_B, DEPTH))
    ndcg_W = total_W / max(1, len(asked.targets_U))
    order_W = np.argsort(-ndcg_W, kind="stable")
    return [Weighed(weights=tried[place], ndcg=float(ndcg_W[place])) for place in order_W.tolist()]
