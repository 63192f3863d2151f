"""The result of an A/B test: difference with interval, whether the assignment held, and how long to go on.

Axes: U user of an arm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.stats import chisquare, norm
from scipy.stats import t as student

from recsys.core.arrays import Float64Array
from recsys.evaluation.off_policy.estimate import LEVEL
from recsys.evaluation.results import Estimate

BROKEN_BELOW = 0.001
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class ABResult:
    """Treatment minus control, a user at a time."""

    control: str
    treatment: str
    users_control: int
    users_treatment: int
    crossed_users: int
    """Users who saw both arms; they are left out."""
    mean_control: float
    mean_treatment: float
    difference: Estimate
    sample_ratio_p: float
    """Probability of a split at least as uneven, had the assignment worked."""
    days: float
    days_to_significance: float | None
    """Days after which a difference of the observed size is found with 80 % probability; None where there is none."""

    @property
    def verdict(self) -> str:
        """What may be concluded, in words."""
        if self.sample_ratio_p < BROKEN_BELOW:
            return (
                f"the split {self.users_control:,} to {self.users_treatment:,} is not the one that was asked for "
                f"(p = {self.sample_ratio_p:.2g}): mend the assignment, the difference means nothing"
            )
        if self.difference.low > 0:
            return f"{self.treatment} is better than {self.control}"
        if self.difference.high < 0:
            return f"{self.treatment} is worse than {self.control}"
        if self.days_to_significance is None:
            return "no difference is seen"
        return (
            f"undecided after {self.days:.1f} days; an effect of this size needs about {self.days_to_significance:.0f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the verdict."""
        return asdict(self) | {"difference": self.difference.to_json(), "verdict": self.verdict}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ABResult":
        """Read what :meth:`to_json` wrote."""
        kept = {item.name: values[item.name] for item in fields(cls)}
        return cls(**kept | {"difference": Estimate(**values["difference"])})


def compare_arms(
    control_U: Float64Array,
    treatment_U: Float64Array,
    *,
    names: tuple[str, str],
    days: float,
    treatment_share: float = 0.5,
    crossed_users: int = 0,
) -> ABResult:
    """Compare two arms by Welch's interval.

    Shape:
        control_U, treatment_U: (users of the arm,) one value per user.
    """
    if min(len(control_U), len(treatment_U)) < 2:
        raise ValueError(
            f"each arm must hold two users or more, got {len(control_U)} and {len(treatment_U)}; wait for more"
        )
    means = float(control_U.mean()), float(treatment_U.mean())
    parts = np.array([values.var(ddof=1) / len(values) for values in (control_U, treatment_U)])
    sizes = np.array([len(control_U), len(treatment_U)])
    variance = float(parts.sum())
    freedom = variance**2 / float((parts**2 / (sizes - 1)).sum()) if variance else float(sizes.sum() - 2)
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * variance**0.5
    difference = means[1] - means[0]
    total = sizes.sum()
    expected = np.array([1 - treatment_share, treatment_share]) * total
    needed = None
    if difference and variance:
        factor = float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) ** 2
        needed = days * factor * variance / difference**2
    return ABResult(
        control=names[0],
        treatment=names[1],
        users_control=len(control_U),
        users_treatment=len(treatment_U),
        crossed_users=crossed_users,
        mean_control=means[0],
        mean_treatment=means[1],
        difference=Estimate(value=difference, low=difference - half, high=difference + half),
        sample_ratio_p=float(chisquare(sizes, expected).pvalue),
        days=days,
        days_to_significance=needed,
    )


def arms_of(
    users: Sequence[object], arms: Sequence[str], rewards: Sequence[float]
) -> tuple[dict[str, Float64Array], int]:
    """Return each arm's reward per user, and how many users were in more than one arm and so are left out."""
    sums: dict[object, dict[str, float]] = {}
    for user, arm, reward in zip(users, arms, rewards, strict=True):
        of_user = sums.setdefault(user, {})
        of_user[arm] = of_user.get(arm, 0.0) + reward
    pure = [next(iter(of_user.items())) for of_user in sums.values() if len(of_user) == 1]
    found = {
        arm: np.array([reward for name, reward in pure if name == arm]) for arm in sorted({name for name, _ in pure})
    }
    return found, len(sums) - len(pure)
