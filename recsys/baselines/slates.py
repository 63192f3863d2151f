"""From a matrix of scores to slates: exclusion of seen and ineligible items, then the best n.

Axes: B history, N item.
"""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import History, Slate
from recsys.core.arrays import BoolArray, FloatArray


def slates_from_scores(
    scores_BN: FloatArray,
    histories: Sequence[History],
    n: int,
    keep_seen: bool,
    eligible_N: BoolArray | None,
) -> list[Slate]:
    """Return the n best items of each row, best first; items scored -inf are never returned.

    Shape:
        scores_BN: (histories, items), left as it is.
        eligible_N: (items,) True where an item may be recommended; None allows all.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}; ask for one item or more")
    scores_BN = np.array(scores_BN, np.float32)
    if eligible_N is not None:
        scores_BN[:, ~eligible_N] = -np.inf
    if not keep_seen:
        for scores_N, history in zip(scores_BN, histories, strict=True):
            scores_N[history.items] = -np.inf
    top = min(n, scores_BN.shape[1])
    if top < scores_BN.shape[1]:
        items_BT = np.argpartition(-scores_BN, top - 1, axis=1)[:, :top]
    else:
        items_BT = np.broadcast_to(np.arange(top), scores_BN.shape)
    slates = []
    for scores_N, items_T in zip(scores_BN, items_BT, strict=True):
        ranked_T = items_T[np.lexsort((items_T, -scores_N[items_T]))]
        ranked_T = ranked_T[scores_N[ranked_T] > -np.inf]
        slates.append(Slate(items=ranked_T.astype(np.int64), scores=scores_N[ranked_T]))
    return slates
