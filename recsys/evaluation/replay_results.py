"""The figures of a replayed log, as frozen values with one JSON form each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from recsys.evaluation.ab import ABResult
from recsys.evaluation.results import Estimate, PairedRow, estimates


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
    """One estimate of what a target policy would have earned, from a log of another."""

    target: str
    logging: str
    estimator: str
    estimate: Estimate
    effective_sample_size: float
    clipped_share: float = 0.0
    """Share of requests whose weight was cut or set aside."""
    biased: bool = False
    """Whether the interval leaves out a bias that the log cannot measure."""
    refusal: str = ""
    """Why this log cannot decide the value; empty where it can."""

    def to_json(self) -> dict[str, Any]:
        """Return the row with value and interval beside its names."""
        return {
            "target": self.target,
            "logging": self.logging,
            "estimator": self.estimator,
            **self.estimate.to_json(),
            "effective_sample_size": self.effective_sample_size,
            "clipped_share": self.clipped_share,
            "biased": self.biased,
            "refusal": self.refusal,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "OffPolicyRow":
        """Read what :meth:`to_json` wrote."""
        return cls(
            target=row["target"],
            logging=row["logging"],
            estimator=row["estimator"],
            estimate=Estimate(value=row["value"], low=row["low"], high=row["high"]),
            effective_sample_size=row["effective_sample_size"],
            clipped_share=row.get("clipped_share", 0.0),
            biased=row.get("biased", False),
            refusal=row.get("refusal", ""),
        )


@dataclass(frozen=True, kw_only=True)
class PeriodRow:
    """One recommender's figures in one period of a replayed log."""

    recommender: str
    start: int
    """Unix seconds of the first target event."""
    end: int
    """Unix seconds of the last target event."""
    events: int
    figures: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return the row with its figures beside its names."""
        figures = {name: estimate.to_json() for name, estimate in self.figures.items()}
        names = {"recommender": self.recommender, "start": self.start, "end": self.end, "events": self.events}
        return names | figures

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "PeriodRow":
        """Read what :meth:`to_json` wrote."""
        names = {key: row[key] for key in ("recommender", "start", "end", "events")}
        return cls(**names, figures=estimates(row))


@dataclass(frozen=True, kw_only=True)
class ReplayCost:
    """What answering took, a request: over calls of many requests, or each request of a served endpoint."""

    recommender: str
    requests: int
    milliseconds: float
    milliseconds_p50: float
    milliseconds_p99: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields by their names."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ShownRanking:
    """How each recommender ranks what a log showed: items that users took against items that they passed over."""

    groups: Mapping[str, int]
    """How many groups of items shown together each slice of users holds."""
    items: int
    """How many items the groups hold."""
    rows: tuple[ReplayRow, ...]
    paired: tuple[PairedRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the ranking with its rows."""
        return {
            "groups": dict(self.groups),
            "items": self.items,
            "rows": [row.to_json() for row in self.rows],
            "paired": [row.to_json("slice") for row in self.paired],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ShownRanking":
        """Read what :meth:`to_json` wrote."""
        return cls(
            groups=values["groups"],
            items=values["items"],
            rows=tuple(ReplayRow.from_json(row) for row in values["rows"]),
            paired=tuple(PairedRow.from_json(row, "slice") for row in values["paired"]),
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
    split: str = "leave-one-out"
    """How the log was divided into training and target events."""
    over_time: tuple[PeriodRow, ...] = ()
    """The same figures period by period."""
    paired: tuple[PairedRow, ...] = ()
    """Differences between recommenders on the same events."""
    costs: tuple[ReplayCost, ...] = ()
    """What each recommender's answers took."""
    ab: tuple[ABResult, ...] = ()
    """Where the log's impressions are of several policies: each against the first, by what its users did."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Events of the log by what became of them: asked (targets), sampled out, known to training, of unknown items."""
    shown: ShownRanking | None = None
    """Where the log has impressions, some taken and some passed over: how each ranks them."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as ``recsys replay --json`` writes it."""
        return {
            "log": self.log,
            "rows": [row.to_json() for row in self.rows],
            "off_policy": [row.to_json() for row in self.off_policy],
            "note": self.note,
            "events": dict(self.events),
            "split": self.split,
            "over_time": [row.to_json() for row in self.over_time],
            "paired": [row.to_json("slice") for row in self.paired],
            "costs": [row.to_json() for row in self.costs],
            "counts": dict(self.counts),
            "ab": [row.to_json() for row in self.ab],
            "shown": self.shown.to_json() if self.shown else None,
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
            split=values.get("split", "leave-one-out"),
            over_time=tuple(PeriodRow.from_json(row) for row in values.get("over_time", ())),
            paired=tuple(PairedRow.from_json(row, "slice") for row in values.get("paired", ())),
            costs=tuple(ReplayCost(**row) for row in values.get("costs", ())),
            counts=values.get("counts", {}),
            ab=tuple(ABResult.from_json(row) for row in values.get("ab", ())),
            shown=ShownRanking.from_json(values["shown"]) if values.get("shown") else None,
        )
