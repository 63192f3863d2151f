"""Reasoning Pruning by two Weibull distributions, compiled; the readable fit is in :mod:`recsys.decoding`.

The shape of a distribution is found by Newton's steps from the shape of the round before, inside the bounds between
which the readable fit bisects.

Axes: P path. Local: W component of the mixture.
"""

import numpy as np

from recsys.core.arrays import BoolArray, Float64Array
from recsys.decoding.reasoning_pruning import FEWEST, HIGHEST_SHAPE, LEAST, LOWEST_SHAPE, ROUNDS
from recsys.runtime.compiled import kernel

_STEPS = 40
_NEAR = 1e-11
"""A step that changes the shape by less than this share of it is the last."""
_LARGEST_RATIO = 1e3
_LARGEST_LOG = 700.0
_TINY = 1e-300


@kernel
def compiled_lower_part(value_P: Float64Array) -> BoolArray:
    """Return :func:`recsys.decoding.reasoning_pruning.in_lower_part`.

    Shape:
        value_P: (paths,) above 0.
    """
    paths = len(value_P)
    if paths < FEWEST or value_P.max() - value_P.min() < LEAST:
        return np.zeros(paths, np.bool_)
    value_P = np.maximum(value_P, LEAST)
    low_P = np.where(value_P < np.median(value_P), 0.9, 0.1)
    log_P = np.log(value_P)
    density_WP = np.empty((2, paths), np.float64)
    shape_W = np.ones(2, np.float64)
    for _ in range(ROUNDS):
        for part in range(2):
            weight_P = low_P if part == 0 else 1 - low_P
            shape_W[part] = _fit(log_P, weight_P, shape_W[part], density_WP[part])
        for path in range(paths):
            total = density_WP[0, path] + density_WP[1, path]
            if total > 0:
                low_P[path] = density_WP[0, path] / total
    return low_P > 0.5


@kernel
def _fit(log_P: Float64Array, weight_P: Float64Array, shape: float, density_P: Float64Array) -> float:
    """Write the density, times the part's weight, of the Weibull distribution that is likeliest; return its shape.

    Shape:
        log_P: (paths,) logs of the values. weight_P, density_P: (paths,).
    """
    total, highest = weight_P.sum() + LEAST, log_P.max()
    mean_log = (weight_P * log_P).sum() / total
    shape = _likeliest_shape(log_P, weight_P, mean_log, shape)
    mean_power = (weight_P * np.exp(shape * (log_P - highest))).sum() / total
    log_scale = highest + np.log(max(mean_power, _TINY)) / shape
    factor, ceiling = weight_P.sum() / len(weight_P), np.log(_LARGEST_RATIO)
    for path in range(len(log_P)):
        log_ratio = log_P[path] - log_scale
        power = np.exp(shape * min(log_ratio, ceiling))
        log_density = np.log(shape) - log_scale + (shape - 1) * log_ratio - power
        density_P[path] = factor * np.exp(min(max(log_density, -_LARGEST_LOG), _LARGEST_LOG))
    return shape


@kernel
def _likeliest_shape(log_P: Float64Array, weight_P: Float64Array, mean_log: float, shape: float) -> float:
    """Return where sum(w x^k ln x) / sum(w x^k) - 1 / k, which rises with k, is the mean log, or the nearer bound."""
    low, high, highest = LOWEST_SHAPE, HIGHEST_SHAPE, log_P.max()
    for _ in range(_STEPS):
        power, first, second = 0.0, 0.0, 0.0
        for path in range(len(log_P)):
            below = log_P[path] - highest
            weighed = weight_P[path] * np.exp(shape * below)
            power += weighed
            first += weighed * below
            second += weighed * below * below
        mean = first / (power + _TINY)
        excess = mean + highest - 1 / shape - mean_log
        if excess < 0:
            low = shape
        else:
            high = shape
        slope = max(second / (power + _TINY) - mean * mean, 0.0) + 1 / (shape * shape)
        stepped = shape - excess / slope
        if not low < stepped < high:
            stepped = np.sqrt(low * high)
        moved = abs(stepped - shape)
        shape = stepped
        if moved < _NEAR * shape:
            break
    return shape
