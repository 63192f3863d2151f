"""CORP: how far a step moves the predicted category distribution of a path, and which paths are pruned for it.

Axes: P path, Q category, B request.
"""

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray


def js_divergence(p_PQ: FloatArray, q_PQ: FloatArray) -> FloatArray:
    """Return the Jensen-Shannon divergence of paired distributions, base 2, from 0 (equal) to 1 (disjoint).

    Shape:
        p_PQ, q_PQ: (paths, categories), rows sum to one.
        result: (paths,).
    """
    mean_PQ = (p_PQ + q_PQ) / 2.0
    halves_P = (_relative_entropy(p_PQ, mean_PQ) + _relative_entropy(q_PQ, mean_PQ)) / 2.0
    return np.clip(halves_P, 0.0, 1.0).astype(np.float32)


def _relative_entropy(p_PQ: FloatArray, mean_PQ: FloatArray) -> FloatArray:
    # half of the least number that there is counts as none
    ratio_PQ = np.divide(p_PQ, mean_PQ, out=np.ones_like(mean_PQ), where=(p_PQ > 0) & (mean_PQ > 0))
    return (p_PQ * np.log2(ratio_PQ)).sum(axis=-1)


def prune(row_P: IntArray, jump_P: FloatArray, *, theta: float, wanted_B: IntArray) -> BoolArray:
    """Decide which of the tried expansions live on.

    An expansion is consistent when its category distribution jumped by at most ``theta``. All consistent ones live,
    up to the wanted number of the row; where they are too few, the least inconsistent fill up.

    Shape:
        row_P: (paths,) the row of each expansion, better expansions earlier inside a row.
        jump_P: (paths,) JS divergence from the step before.
        wanted_B: (rows,) number of live paths wanted.
        result: (paths,) True where the expansion lives.
    """
    order_P = np.lexsort((np.where(jump_P > theta, jump_P, -1.0), row_P))
    sorted_P = row_P[order_P]
    rank_P = np.arange(len(sorted_P)) - np.searchsorted(sorted_P, sorted_P)
    keep_P = np.zeros(len(row_P), np.bool_)
    keep_P[order_P] = rank_P < wanted_B[sorted_P]
    return keep_P
