"""The pruning threshold of CORP, a quantile of the divergences on validation paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.contracts import History, requests_for
from recsys.core.arrays import FloatArray
from recsys.core.divergence import js_divergence
from recsys.recommender.reasoning import ReasoningRecommender


def observed_divergences(recommender: ReasoningRecommender[Any], histories: Sequence[History]) -> FloatArray:
    """Return the JS divergences between neighbouring steps of the best path of each history (paper, section CORP)."""
    slates = recommender.recommend(requests_for(histories, n=1))
    context = recommender.scorer.encode(histories)
    found: list[FloatArray] = []
    paths = [(row, slate.paths[0][0].steps) for row, slate in enumerate(slates) if slate.paths and slate.paths[0]]
    row_P = np.array([row for row, _ in paths], dtype=np.int64)
    codes_PM = np.full((len(paths), recommender.catalogue.layout.num_codebooks), -1, dtype=np.int64)
    depth = max((len(steps) for _, steps in paths), default=0)
    if not paths:
        return np.empty(0, np.float32)
    before_PQ = recommender.scorer.score_steps(context, row_P, codes_PM).category_PQ
    for step in range(depth):
        took_P = np.array([len(steps) > step for _, steps in paths])
        for path in np.flatnonzero(took_P):
            taken = paths[path][1][step]
            codes_PM[path, taken.codebook] = taken.code
        after_PQ = recommender.scorer.score_steps(context, row_P, codes_PM).category_PQ
        found.append(np.asarray(js_divergence(before_PQ, after_PQ))[took_P])
        before_PQ = after_PQ
    return np.concatenate(found).astype(np.float32)
