"""From a matrix of scores to slates: exclusion of seen and ineligible items, then the best n.

Axes: B request, N item.
"""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import Request, Slate, eligible_items, require_unsteered
from recsys.core.arrays import FloatArray


def slates_from_scores(scores_BN: FloatArray, requests: Sequence[Request], *, name: str) -> list[Slate]:
    """Return the best items of each row, best first, ties by index; items scored -inf are never returned.

    Args:
        scores_BN: the recommender's score of each item; left as it is.
        requests: one a row.
        name: of the recommender, for the message to those who try to steer it.

    Shape:
        scores_BN: (requests, items).
    """
    require_unsteered(requests, name)
    allowed_BN = eligible_items(requests, scores_BN.shape[1])
    scores_BN = np.where(allowed_BN, scores_BN, -np.inf).astype(np.float32)
    top = min(max((request.n for request in requests), default=0), scores_BN.shape[1])
    # what is as high as the last place is ranked too: which of equals a partition takes depends on the longest slate
    edge_B = np.partition(scores_BN, -top, axis=1)[:, -top] if top else np.full(len(requests), np.inf)
    slates = []
    for request, scores_N, edge in zip(requests, scores_BN, edge_B, strict=True):
        items_T = np.flatnonzero((scores_N >= edge) & (scores_N > -np.inf))
        ranked_T = items_T[np.argsort(-scores_N[items_T], kind="stable")][: request.n]
        slates.append(Slate(items=ranked_T, scores=scores_N[ranked_T]))
    return slates
