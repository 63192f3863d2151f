"""The Jensen-Shannon divergence of discrete distributions.

Axes: X any leading axes, V value of the distributions.
"""

from typing import TypeVar

import numpy as np

from recsys.core.arrays import Float64Array, FloatArray

_Floats = TypeVar("_Floats", FloatArray, Float64Array)


def js_divergence(p_XV: _Floats, q_XV: _Floats) -> _Floats:
    """Return the Jensen-Shannon divergence of distributions, base 2, from 0 (equal) to 1 (disjoint).

    The result has the precision of the arguments: float32 where paths are searched, float64 in reports.

    Shape:
        p_XV, q_XV: (..., values), sums over the last axis are one; leading axes broadcast.
        result: (...).
    """
    mean_XV = np.asarray((p_XV + q_XV) / 2, p_XV.dtype)
    halves_X = (_relative_entropy(p_XV, mean_XV) + _relative_entropy(q_XV, mean_XV)) / 2
    return np.asarray(np.clip(halves_X, 0, 1), p_XV.dtype)


def _relative_entropy(p_XV: _Floats, mean_XV: _Floats) -> _Floats:
    # half of the least positive number is 0: such a share counts as none
    ratio_XV = np.divide(p_XV, mean_XV, out=np.ones_like(mean_XV), where=(p_XV > 0) & (mean_XV > 0))
    return np.asarray((p_XV * np.log2(ratio_XV)).sum(axis=-1), p_XV.dtype)
