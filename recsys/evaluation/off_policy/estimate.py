"""One off-policy estimate with its interval, and how the interval is computed.

Axes: B logged request, G group of dependent requests (a user).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from recsys.core.arrays import Float64Array, IntArray

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class PolicyValue:
    """The estimated mean reward per request of a target policy.

    ``low`` and ``high`` bound the sampling error at 95 %. Where ``biased`` is true the estimator has a bias that the
    log cannot measure (a reward model, clipped weights), and the interval does not cover it.
    """

    estimator: str
    value: float
    low: float
    high: float
    effective_sample_size: float
    clipped_share: float = 0.0
    requests: int = 0
    biased: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the estimate under the keys that programs rely on."""
        return asdict(self)


def effective_sample_size(weights_B: Float64Array) -> float:
    """Return (sum w)^2 / sum w^2: as many equally weighted requests would give the same variance.

    For example, weights 1, 1, 0, 0 give 2.

    Shape:
        weights_B: (requests,), not negative.
    """
    squares = float(np.square(weights_B).sum())
    return float(weights_B.sum() ** 2 / squares) if squares else 0.0


def half_width(deviations_B: Float64Array, groups_B: IntArray | None = None) -> float:
    """Return half the width of the 95 % Student interval of a mean whose terms deviate from it by these amounts.

    Terms of one group are summed first (a cluster-robust variance), so requests of one user may depend on each other.
    A single term or group has an infinite half width.

    Shape:
        deviations_B: (requests,) term minus estimate.
        groups_B: (requests,) any integer that names the group; None: every request is its own.
    """
    total = len(deviations_B)
    sums_G: Float64Array = deviations_B
    if groups_B is not None:
        _, group_B = np.unique(groups_B, return_inverse=True)
        sums_G = np.bincount(group_B, weights=deviations_B).astype(np.float64)
    groups = len(sums_G)
    if groups < 2:
        return float("inf")
    variance = float(np.square(sums_G).sum()) * groups / (groups - 1) / total**2
    return float(student.ppf((1 + LEVEL) / 2, groups - 1)) * variance**0.5


def mean_estimate(
    name: str,
    terms_B: Float64Array,
    *,
    weights_B: Float64Array,
    groups_B: IntArray | None,
    clipped_share: float = 0.0,
    biased: bool = False,
) -> PolicyValue:
    """Return the mean of one term per request as an estimate."""
    if not len(terms_B):
        raise ValueError("an estimate needs at least one logged request, got none; give a log with impressions")
    value = float(terms_B.mean())
    half = half_width(terms_B - value, groups_B)
    return PolicyValue(
        estimator=name,
        value=value,
        low=value - half,
        high=value + half,
        effective_sample_size=effective_sample_size(weights_B),
        clipped_share=clipped_share,
        requests=len(terms_B),
        biased=biased,
    )


def ratio_estimate(
    name: str, numerator_B: Float64Array, weights_B: Float64Array, *, groups_B: IntArray | None
) -> PolicyValue:
    """Return sum(numerator) / sum(weights) as an estimate; its interval linearises the ratio."""
    if not len(weights_B):
        raise ValueError("an estimate needs at least one logged request, got none; give a log with impressions")
    mean = float(weights_B.mean())
    value = float(numerator_B.mean()) / mean if mean else 0.0
    half = half_width((numerator_B - value * weights_B) / mean, groups_B) if mean else float("inf")
    return PolicyValue(
        estimator=name,
        value=value,
        low=value - half,
        high=value + half,
        effective_sample_size=effective_sample_size(weights_B),
        requests=len(weights_B),
    )
