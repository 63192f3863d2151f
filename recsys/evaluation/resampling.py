"""Intervals of many means at once, and of their differences, from one set of resampled users.

Axes: H target event, U user, F figure, X group of events, R resample.
"""

from dataclasses import dataclass

import numpy as np

from recsys.core.arrays import BoolArray, Float64Array, IntArray
from recsys.evaluation.intervals import PERCENTILES, RESAMPLES
from recsys.evaluation.results import Estimate

BLOCK = 50


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Means of every figure in every group, over the events and over each resample of whole users.

    Shape:
        means_XF: (groups, figures). resampled_RXF: (resamples, groups, figures).
    """

    means_XF: Float64Array
    resampled_RXF: Float64Array

    def estimate(self, group: int, figure: int) -> Estimate:
        """Return a mean with its 95 % interval."""
        return _interval(self.means_XF[group, figure], self.resampled_RXF[:, group, figure])

    def difference(self, group: int, figure: int, other: int) -> Estimate:
        """Return one figure's mean minus another's, with the 95 % interval of the difference."""
        return _interval(
            self.means_XF[group, figure] - self.means_XF[group, other],
            self.resampled_RXF[:, group, figure] - self.resampled_RXF[:, group, other],
        )


def resample(values_HF: Float64Array, users_H: IntArray, groups_XH: BoolArray, rng: np.random.Generator) -> Resampled:
    """Draw users with replacement, with all their events, and average again.

    Shape:
        values_HF: (targets, figures). users_H: (targets,). groups_XH: (groups, targets), each with at least one event.
    """
    names_U, user_H = np.unique(users_H, return_inverse=True)
    users, (groups, figures) = len(names_U), (len(groups_XH), values_HF.shape[1])
    sums_UXF = np.zeros((users, groups, figures))
    counts_UX = np.zeros((users, groups))
    for group, in_group_H in enumerate(groups_XH):
        counts_UX[:, group] = np.bincount(user_H[in_group_H], minlength=users)
        for figure in range(figures):
            weights = values_HF[in_group_H, figure]
            sums_UXF[:, group, figure] = np.bincount(user_H[in_group_H], weights=weights, minlength=users)
    flat_UC = sums_UXF.reshape(users, groups * figures)
    parts = []
    for start in range(0, RESAMPLES, BLOCK):
        drawn_RU = _draw(users, min(BLOCK, RESAMPLES - start), rng)
        counts_RX = drawn_RU @ counts_UX
        sums_RXF = (drawn_RU @ flat_UC).reshape(-1, groups, figures)
        parts.append(
            np.divide(sums_RXF, counts_RX[:, :, None], out=np.full_like(sums_RXF, np.nan), where=_some(counts_RX))
        )
    means_XF = sums_UXF.sum(axis=0) / counts_UX.sum(axis=0)[:, None]
    return Resampled(means_XF=means_XF, resampled_RXF=np.concatenate(parts))


def _some(counts_RX: Float64Array) -> BoolArray:
    return np.asarray(counts_RX[:, :, None] > 0)


def _draw(users: int, resamples: int, rng: np.random.Generator) -> Float64Array:
    drawn_RU = np.zeros((resamples, users))
    for row_U in drawn_RU:
        row_U += np.bincount(rng.integers(users, size=users), minlength=users)
    return drawn_RU


def _interval(mean: float, means_R: Float64Array) -> Estimate:
    """Return the mean with its percentile interval; resamples without a user of the group are left out."""
    low, high = np.nanpercentile(means_R, PERCENTILES)
    return Estimate(value=float(mean), low=float(low), high=float(high))
