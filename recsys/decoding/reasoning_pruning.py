"""Reasoning Pruning of RPC (arXiv 2502.00511): finished paths of low probability are taken out.

Two rules. ``mean`` keeps the paths of a history whose probability is at least their mean. ``weibull`` fits a mixture of
two Weibull distributions to the probabilities of a history's paths and takes out those that more likely belong to the
lower part, if they are below the mean too.

Axes: P path. Local: W component of the mixture.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from recsys.core.arrays import BoolArray, Float64Array, IntArray

PruningRule = Literal["none", "mean", "weibull"]
ROUNDS = 40
"""Rounds of expectation and maximisation."""
LEAST = 1e-9
"""Values, their range and sums of weights below it count as this."""
LOWEST_SHAPE, HIGHEST_SHAPE = 0.05, 50.0
"""Between them lies the shape of a Weibull distribution."""
FEWEST = 4
"""A mixture of two parts is not fitted to fewer paths than this: all of them stay."""

LowerPart = Callable[[Float64Array], BoolArray]
"""Returns which values more likely belong to the lower of two distributions that are fitted to all."""


def likely_paths(
    row_P: IntArray, log_prob_P: Float64Array, rule: PruningRule, lower_part: LowerPart | None = None
) -> BoolArray:
    """Return which finished paths stay; the most probable one of each row always does.

    Args:
        row_P: the row of each path.
        log_prob_P: their log-probabilities.
        rule: which paths go.
        lower_part: what the ``weibull`` rule takes out of a row; :func:`in_lower_part` without one.

    Shape:
        row_P, log_prob_P, result: (paths,).
    """
    lower_part = lower_part or in_lower_part
    keep_P = np.ones(len(row_P), np.bool_)
    if rule == "none":
        return keep_P
    for row in np.unique(row_P).tolist():
        at = np.flatnonzero(row_P == row)
        prob_P = np.exp(log_prob_P[at] - log_prob_P[at].max())  # over that of the best path
        low_P = prob_P < prob_P.mean()
        if rule == "weibull":
            low_P &= lower_part(prob_P)
        keep_P[at] = ~low_P
    return keep_P


def in_lower_part(value_P: Float64Array) -> BoolArray:
    """Return which values more likely belong to the lower of two Weibull distributions that are fitted to all.

    The fit is by expectation and maximisation from a split at the median.

    Shape:
        value_P: (paths,) above 0.
    """
    if len(value_P) < FEWEST or value_P.max() - value_P.min() < LEAST:
        return np.zeros(len(value_P), np.bool_)
    value_P = np.maximum(value_P, LEAST)
    low_P = np.where(value_P < np.median(value_P), 0.9, 0.1)
    density_WP = np.empty((2, len(value_P)))
    for _ in range(ROUNDS):
        for part, weight_P in enumerate((low_P, 1 - low_P)):
            shape, scale = weibull_fit(value_P, weight_P)
            density_WP[part] = weight_P.mean() * weibull_density(value_P, shape, scale)
        total_P = density_WP.sum(axis=0)
        low_P = np.divide(density_WP[0], total_P, out=low_P, where=total_P > 0)
    return low_P > 0.5


def weibull_fit(value_P: Float64Array, weight_P: Float64Array) -> tuple[float, float]:
    """Return shape and scale of the Weibull distribution under which weighted values are most likely.

    The shape k solves sum(w x^k ln x) / sum(w x^k) - 1 / k = sum(w ln x) / sum(w), whose left side rises with k; it is
    found by bisection between the lowest and the highest.
    """
    total, log_P = weight_P.sum() + LEAST, np.log(value_P)
    mean_log = float((weight_P * log_P).sum() / total)
    low, high = LOWEST_SHAPE, HIGHEST_SHAPE
    for _ in range(40):
        shape = (low * high) ** 0.5
        power_P = weight_P * np.exp(shape * (log_P - log_P.max()))
        if (power_P * log_P).sum() / (power_P.sum() + 1e-300) - 1 / shape < mean_log:
            low = shape
        else:
            high = shape
    mean_power = float((weight_P * np.exp(shape * (log_P - log_P.max()))).sum() / total)
    return shape, float(np.exp(log_P.max()) * max(mean_power, 1e-300) ** (1 / shape))


def weibull_density(value_P: Float64Array, shape: float, scale: float) -> Float64Array:
    """Return the density of a Weibull distribution at values above 0.

    Shape:
        value_P, result: (paths,).
    """
    ratio_P = value_P / scale
    log_P = (
        np.log(shape / scale) + (shape - 1) * np.log(ratio_P) - np.minimum(ratio_P, 1e3) ** min(shape, HIGHEST_SHAPE)
    )
    return np.asarray(np.exp(np.clip(log_P, -700, 700)))
