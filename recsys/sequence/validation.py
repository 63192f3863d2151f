"""NDCG@10 of scores over the whole catalogue, for the choice of epochs and settings.

Axes: B batch row, U user, N item.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import FloatArray, IntArray

DEPTH = 10


def mean_ndcg(
    score: Callable[[Sequence[History]], FloatArray],
    histories: Sequence[History],
    targets_U: IntArray,
    *,
    batch_size: int = 256,
) -> float:
    """Return the mean NDCG@10 of the items that came next, with what a user already has taken out.

    Args:
        score: returns every item's score for each history, (histories, items); it is written into.
        histories: at least one.
        targets_U: the item that came next, for each history.
        batch_size: histories per call of ``score``.
    """
    total = 0.0
    for start in range(0, len(histories), batch_size):
        batch = histories[start : start + batch_size]
        total += summed_ndcg(score(batch), batch, targets_U[start : start + batch_size])
    return total / max(1, len(histories))


def summed_ndcg(
    scores_BN: FloatArray, histories: Sequence[History], targets_B: IntArray, *, keep_seen: bool = False
) -> float:
    """Return the sum of NDCG@10 over histories, ties ranked against the scores.

    Where ``keep_seen`` is False, what a user already has is out, written into the scores, and never found.
    """
    total = 0.0
    for scores_N, history, target in zip(scores_BN, histories, targets_B.tolist(), strict=True):
        wanted = scores_N[target]
        if not keep_seen:
            scores_N[history.items] = -np.inf
        rank = int((scores_N >= wanted).sum())  # the target is as high as itself, so ranks begin at 1
        if rank <= DEPTH and scores_N[target] == wanted:
            total += 1 / math.log2(rank + 1)
    return total
