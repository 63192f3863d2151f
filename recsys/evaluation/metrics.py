"""Ranking metrics with one right answer per question, ties ranked against the recommender.

Axes: U question (a user), N item.
"""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import Slate
from recsys.core.arrays import Float64Array, IntArray
from recsys.core.ranking import MISS


def rank_of_target(slate: Slate, target: int) -> int | None:
    """Return how many items of the slate score at least as high as the target, or None if it is not there.

    Ask for one item more than the longest cut-off: a group of equal scores that runs past the cut-off then pushes the
    target past it too, so that a lucky order among equals is never a hit.
    """
    places = np.flatnonzero(slate.items == target)
    if not len(places):
        return None
    return int((slate.scores >= slate.scores[places[0]]).sum())


def ranks_of_targets(slates: Sequence[Slate], targets_U: IntArray) -> IntArray:
    """Return each target's pessimistic rank, MISS where it is not in its slate.

    Shape:
        targets_U: (questions,) catalogue indices; the result has the same shape.
    """
    ranks = (rank_of_target(slate, int(target)) for slate, target in zip(slates, targets_U, strict=True))
    return np.fromiter((MISS if rank is None else rank for rank in ranks), np.int64, len(targets_U))


def recall_at(ranks_U: IntArray, k: int) -> Float64Array:
    """Return 1 for each question whose target is among the first k, else 0.

    Shape:
        ranks_U: (questions,) from 1, MISS for a miss; the result has the same shape.
    """
    return ((ranks_U != MISS) & (ranks_U <= k)).astype(np.float64)


def coverage(shown: Sequence[IntArray], *, num_items: int) -> float:
    """Return the share of the catalogue that appears in any slate; ``shown`` are the items of each."""
    return len(np.unique(np.concatenate(shown))) / num_items if len(shown) else 0.0
