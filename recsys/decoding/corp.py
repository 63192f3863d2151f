"""CORP: which paths are pruned because a step moved their predicted category distribution too far.

Axes: P path, B request.
"""

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray


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
