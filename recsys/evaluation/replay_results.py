"""The figures of a replayed log, as frozen values with one JSON form each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recsys.evaluation.results import Estimate, estimates


@dataclass(frozen=True, kw_only=True)
class ReplayRow:
    """One recommender's figures on one slice of a replayed log."""

    recommender: str
    slice: str
    figures: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return the row with its figures beside its names."""
        figures = {name: estimate.to_json() for name, estimate in self.figures.items()}
        return {"recommender": self.recommender, "slice": self.slice, **figures}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ReplayRow":
        """Read what :meth:`to_json` wrote."""
        return cls(recommender=row["recommender"], slice=row["slice"], figures=estimates(row))


@dataclass(frozen=True, kw_only=True)
class OffPolicyRow:
    """What one estimator says a target policy would have earned, from a log of another."""

    target: str
    logging: str
    estimator: str
    estimate: Estimate
    effective_sample_size: float

    def to_json(self) -> dict[str, Any]:
        """Return the row with value and interval beside its names."""
        names = {"target": self.target, "logging": self.logging, "estimator": self.estimator}
        return names | self.estimate.to_json() | {"effective_sample_size": self.effective_sample_size}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "OffPolicyRow":
        """Read what :meth:`to_json` wrote."""
        return cls(
            target=row["target"],
            logging=row["logging"],
            estimator=row["estimator"],
            estimate=Estimate(value=row["value"], low=row["low"], high=row["high"]),
            effective_sample_size=row["effective_sample_size"],
        )


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A log replayed in time order."""

    log: str = ""
    """The log's name."""
    rows: tuple[ReplayRow, ...]
    off_policy: tuple[OffPolicyRow, ...] = ()
    """Empty where the log has no propensities."""
    note: str = ""
    """What the figures can't say, in words."""
    events: Mapping[str, int] = field(default_factory=dict)
    """How many events each slice holds."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as ``recsys replay --json`` writes it."""
        return {
            "log": self.log,
            "rows": [row.to_json() for row in self.rows],
            "off_policy": [row.to_json() for row in self.off_policy],
            "note": self.note,
            "events": dict(self.events),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Replay":
        """Read what :meth:`to_json` wrote."""
        return cls(
            log=values["log"],
            rows=tuple(ReplayRow.from_json(row) for row in values["rows"]),
            off_policy=tuple(OffPolicyRow.from_json(row) for row in values["off_policy"]),
            note=values.get("note", ""),
            events=values.get("events", {}),
        )
