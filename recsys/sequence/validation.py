"""NDCG@10 of scores over the whole catalogue, for the choice of epochs and settings.

Axes: B batch row, U user, N item, E event.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.ranking import MISS, ndcg_at
from recsys.data.splits import length_order

DEPTH = 10


class Ranks(Protocol):
    """Ranks targets by scores, as :func:`pessimistic_ranks` does."""

    def __call__(self, scores_BN: FloatArray, targets_B: IntArray, seen: tuple[IntArray, IntArray], /) -> IntArray:
        """Return each target's rank, MISS where it is taken out."""
        ...


def mean_ndcg(
    score: Callable[[Sequence[History]], FloatArray],
    histories: Sequence[History],
    targets_U: IntArray,
    *,
    batch_size: int = 256,
) -> float:
    """Return the mean NDCG@10 of the items that came next, with what a user already has taken out.

    Histories of like lengths are scored together, so that a batch pads little.

    Args:
        score: returns every item's score for each history, (histories, items); it is written into.
        histories: at least one.
        targets_U: the item that came next, for each history.
        batch_size: histories per call of ``score``.
    """
    if not len(histories):
        return 0.0
    return float(ndcg_at(ranks_of(score, histories, targets_U, batch_size=batch_size), DEPTH).mean())


def ranks_of(
    score: Callable[[Sequence[History]], FloatArray],
    histories: Sequence[History],
    targets_U: IntArray,
    *,
    batch_size: int = 256,
    rank: Ranks | None = None,
) -> IntArray:
    """Return the rank of the item that came next in each history, what a user already has taken out, (histories,).

    Takes what :func:`mean_ndcg` takes, and how scores rank: :func:`pessimistic_ranks` unless another way is given.
    """
    rank = rank or pessimistic_ranks
    order_U, rank_U = length_order(histories), np.full(len(histories), MISS, np.int64)
    for start in range(0, len(histories), batch_size):
        places = order_U[start : start + batch_size]
        batch = [histories[place] for place in places.tolist()]
        rank_U[places] = rank(score(batch), targets_U[places], seen_items(batch))
    return rank_U


def summed_ndcg(
    scores_BN: FloatArray, histories: Sequence[History], targets_B: IntArray, *, keep_seen: bool = False
) -> float:
    """Return the sum of NDCG@10 over histories, ties ranked against the scores.

    Where ``keep_seen`` is False, what a user already has is out, written into the scores, and never found.
    """
    seen = None if keep_seen else seen_items(histories)
    return float(ndcg_at(pessimistic_ranks(scores_BN, targets_B, seen), DEPTH).sum())


def seen_items(histories: Sequence[History]) -> tuple[IntArray, IntArray]:
    """Return the rows and the items of all events, two of (events,)."""
    row_E = np.repeat(np.arange(len(histories)), [len(history.items) for history in histories])
    return row_E, np.concatenate([np.empty(0, np.int64), *(history.items for history in histories)])


def pessimistic_ranks(
    scores_BN: FloatArray, targets_B: IntArray, seen: tuple[IntArray, IntArray] | None = None
) -> IntArray:
    """Return each target's rank among all items, ties ranked against it; MISS where it is taken out.

    Shape:
        scores_BN: (histories, items); what is taken out is written into it.
        seen: rows and items to take out, two of (events,); None takes out nothing.
    """
    if seen is not None:
        scores_BN[seen] = -np.inf
    wanted_B = scores_BN[np.arange(len(targets_B)), targets_B]
    rank_B = (scores_BN >= wanted_B[:, None]).sum(axis=1)  # the target is as high as itself, so ranks begin at 1
    return np.where(np.isfinite(wanted_B), rank_B, MISS)
