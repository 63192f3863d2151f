"""From a matrix of scores to slates: exclusion of seen and ineligible items, then the best n.

Axes: B request, N item.
"""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import Request, Slate, eligible_items, require_unsteered
from recsys.core.arrays import FloatArray


def slates_from_scores(scores_BN: FloatArray, requests: Sequence[Request], *, name: str) -> list[Slate]:
    """Return the best items of each row, best first; items scored -inf are never returned.

    Args:
        scores_BN: what the recommender thinks of each item; left as it is.
        requests: what is asked, one a row.
        name: of the recommender, for the message to those who try to steer it.

    Shape:
        scores_BN: (requests, items).
    """
    require_unsteered(requests, name)
    allowed_BN = eligible_items(requests, scores_BN.shape[1])
    scores_BN = np.where(allowed_BN, scores_BN, -np.inf).astype(np.float32)
    top = min(max((request.n for request in requests), default=0), scores_BN.shape[1])
    if top < scores_BN.shape[1]:
        items_BT = np.argpartition(-scores_BN, top - 1, axis=1)[:, :top]
    else:
        items_BT = np.broadcast_to(np.arange(top), scores_BN.shape)
    slates = []
    for request, scores_N, items_T in zip(requests, scores_BN, items_BT, strict=True):
        ranked_T = items_T[np.lexsort((items_T, -scores_N[items_T]))][: request.n]
        ranked_T = ranked_T[scores_N[ranked_T] > -np.inf]
        slates.append(Slate(items=ranked_T.astype(np.int64), scores=scores_N[ranked_T]))
    return slates
