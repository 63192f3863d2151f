"""The rule that decides whether a release may replace the one that serves, over a replay of both on the same events."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field

from recsys.core.config import Config
from recsys.evaluation.replay_results import Replay
from recsys.evaluation.results import PairedRow


class GateConfig(Config):
    """When a release may replace the current one."""

    metric: Literal["recall@10", "ndcg@10"] = "ndcg@10"
    """The figure that is compared."""

    slices: tuple[str, ...] = ("new users", "short history", "active users", "new items", "head items", "tail items")
    """Slices that must not fall: the interval of the difference must not lie wholly below zero."""

    margin: float = Field(default=0.02, ge=0, lt=1)
    """On all events, the figure may fall by at most this share of the current one."""

    sure: bool = False
    """Whether, on all events, even the lower end of the difference's interval must stay above the margin: safer, and
    not possible on short logs."""

    min_events: int = Field(default=30, ge=1)
    """A slice with fewer events is not decided on."""

    max_events: int = Field(default=20_000, ge=1)
    """Compare on a seeded sample of at most so many held-out events."""


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One slice: both figures, their difference with its 95 % interval, and the rule's verdict."""

    slice: str
    events: int
    current: float
    candidate: float
    difference: float
    low: float
    high: float
    passed: bool
    rule: str

    @property
    def words(self) -> str:
        """By how much the slice fell or rose."""
        return (
            f"{self.slice!r} ({self.events:,} events) went from {self.current:.4f} to {self.candidate:.4f}, "
            f"a difference of {self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f}); {self.rule}"
        )


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """What was checked; ``passed`` only where every check did."""

    metric: str
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether the release may be published."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> str:
        """The checks that failed, in words."""
        return "; ".join(check.words for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict with its checks."""
        return {"metric": self.metric, "passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def apply_gate(replay: Replay, rule: GateConfig) -> GateVerdict:
    """Check a replay whose last recommender is the candidate and whose first is the current release."""
    figures = {(row.recommender, row.slice): row.figures[rule.metric].value for row in replay.rows}
    checks = []
    for row in replay.paired:
        if row.group == "all" or (row.group in rule.slices and replay.events[row.group] >= rule.min_events):
            current = figures[row.compared_with, row.group]
            candidate = figures[row.recommender, row.group]
            checks.append(_check(row, replay.events[row.group], rule, current=current, candidate=candidate))
    return GateVerdict(metric=rule.metric, checks=tuple(checks))


def _check(row: PairedRow, events: int, rule: GateConfig, *, current: float, candidate: float) -> GateCheck:
    difference = row.difference[rule.metric]
    least = -rule.margin * current
    passed, words = difference.high >= 0, "its interval must not lie wholly below zero"
    if row.group == "all":
        shown = difference.low if rule.sure else difference.value
        passed = passed and shown >= least
        words = f"{'its interval' if rule.sure else 'it'} must not lie below {least:+.4f}, nor its interval below zero"
    return GateCheck(
        slice=row.group,
        events=events,
        current=current,
        candidate=candidate,
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        passed=passed,
        rule=words,
    )
