"""NDCG of ranks with one right answer per question.

Axes: U question (a user).
"""

import numpy as np

from recsys.core.arrays import Float64Array, IntArray

MISS = 0
"""The rank that stands for "not found"."""


def ndcg_at(ranks_U: IntArray, k: int) -> Float64Array:
    """Return 1/log2(rank + 1) for each question whose target is among the first k, else 0.

    Shape:
        ranks_U: (questions,) from 1, MISS for a miss; the result has the same shape.
    """
    found_U = (ranks_U != MISS) & (ranks_U <= k)
    return found_U / np.log2(np.maximum(ranks_U, 1) + 1)
