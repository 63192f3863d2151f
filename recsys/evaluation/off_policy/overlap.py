"""Overlap checks: whether a log has enough effective requests, and support, for a target policy.

Axes: B logged request.
"""

from dataclasses import dataclass

import numpy as np

from recsys.core.arrays import Float64Array, IntArray
from recsys.evaluation.off_policy.estimate import effective_sample_size, half_width

MIN_EFFECTIVE = 100.0
MAX_MISSING = 0.05
MAX_ONE_REQUEST = 0.1


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How much of a target policy a log has seen, and the verdict.

    ``missing_mass`` is 1 minus the mean weight: the share of the target's choices that the logging policy could not
    make. ``largest_share`` is the largest weight's share of all weights. ``refusal`` is empty where the log can decide.
    """

    requests: int
    effective_sample_size: float
    missing_mass: float
    largest_share: float
    refusal: str

    @property
    def decides(self) -> bool:
        """Whether estimates from this log may be read."""
        return not self.refusal


def check_overlap(
    weights_B: Float64Array, *, groups_B: IntArray | None = None, min_effective: float = MIN_EFFECTIVE
) -> Overlap:
    """Check importance weights, whose mean is 1 wherever the logging policy can do all that the target does.

    Args:
        weights_B: (requests,) target / logging probability of what was logged.
        groups_B: (requests,) the user of each request, where they depend on each other.
        min_effective: fewer effective requests than this decide nothing.
    """
    total = float(weights_B.sum())
    size = effective_sample_size(weights_B)
    mean = float(weights_B.mean()) if len(weights_B) else 0.0
    error = half_width(weights_B - mean, groups_B) if len(weights_B) else float("inf")
    largest = float(weights_B.max() / total) if total else 1.0
    missing = 1.0 - mean
    faults = []
    if size < min_effective:
        faults.append(
            f"effective sample size {size:.1f} of {len(weights_B):,} requests, {min_effective:.0f} are needed"
        )
    if missing > MAX_MISSING and (missing > error or not np.isfinite(error)):
        faults.append(
            f"mean weight {mean:.3f} where 1 is expected: about {missing:.0%} of what the target shows was never logged"
        )
    if total and largest > MAX_ONE_REQUEST:
        faults.append(f"one request carries {largest:.0%} of all weight")
    refusal = f"this log cannot decide this: {'; '.join(faults)}" if faults else ""
    return Overlap(
        requests=len(weights_B),
        effective_sample_size=size,
        missing_mass=missing,
        largest_share=largest,
        refusal=refusal,
    )
