"""95% bootstrap percentile intervals of means, from resampled users.

Axes: U user, E event, F figure, R resample.
"""

import numpy as np

from recsys.core.arrays import Float64Array, IntArray

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)


def bootstrap_interval(values_U: Float64Array, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95% interval of the mean over users.

    Shape:
        values_U: (users,) one value per user.
    """
    low_F, high_F = bootstrap_intervals(values_U[:, None], np.arange(len(values_U)), rng)
    return float(low_F[0]), float(high_F[0])


def bootstrap_intervals(
    values_EF: Float64Array, users_E: IntArray, rng: np.random.Generator
) -> tuple[Float64Array, Float64Array]:
    """Return the 95% intervals of means over events when whole users, with all their events, are drawn anew.

    Shape:
        values_EF: (events, figures) the figures of each event.
        users_E: (events,) any integer that names the event's user.
        result: low and high, each (figures,).
    """
    if not len(values_EF):
        raise ValueError(
            "values must have at least one row, got none; leave out empty groups before asking for intervals"
        )
    _, user_E = np.unique(users_E, return_inverse=True)
    counts_U = np.bincount(user_E).astype(np.float64)
    sums_UF = np.stack([np.bincount(user_E, weights=column_E) for column_E in values_EF.T], axis=1)
    users = len(counts_U)
    means_RF = np.empty((RESAMPLES, values_EF.shape[1]))
    for resample in range(RESAMPLES):
        drawn_U = np.bincount(rng.integers(users, size=users), minlength=users).astype(np.float64)
        means_RF[resample] = drawn_U @ sums_UF / (drawn_U @ counts_U)
    low_F, high_F = np.percentile(means_RF, PERCENTILES, axis=0)
    return low_F, high_F


def paired_difference(a_U: Float64Array, b_U: Float64Array, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the mean of ``a - b`` over the same users and its 95% interval.

    Shape:
        a_U, b_U: (users,) the two recommenders' values, user by user.
    """
    if a_U.shape != b_U.shape:
        raise ValueError(
            f"paired values must have equal shapes, got {a_U.shape} and {b_U.shape}; evaluate both on the same users"
        )
    difference_U = a_U - b_U
    low, high = bootstrap_interval(difference_U, rng)
    return float(difference_U.mean()), low, high
