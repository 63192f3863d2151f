"""The figures that evaluation makes, as frozen values; each has one JSON form, whose keys programs rely on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

import numpy as np

from recsys.core.errors import ArtifactError

Seen = Literal["kept", "removed"]
"""Whether items of the history are left in the ranking or taken out of it."""

METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")
"""The accuracy of a ranking, by the names that JSON, tables and the report use."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return ``{"value", "low", "high"}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


_AT_TEN = ("cold_recall", "rare_recall")
"""The figures of :class:`Beyond` whose names in JSON end in ``@10``."""


@dataclass(frozen=True, kw_only=True)
class Beyond:
    """Beyond-accuracy metrics of a ranking, on the first ten items."""

    popularity: float
    """Mean popularity percentile of recommended items: .5 is a random draw."""
    diversity: float
    """One minus the mean cosine of two items of a slate, by the users they share."""
    cold_users: float
    """How many questions have an answer that training never saw."""
    cold_recall: float
    """Recall@10 on those questions; 0 where there are none."""
    rare_users: float | None = None
    """How many questions have an answer of few training events (:data:`recsys.evaluation.beyond.RARE_EVENTS`)."""
    rare_recall: float | None = None
    """Recall@10 on those questions; 0 where there are none. None in files of before it was measured."""

    def to_json(self) -> dict[str, float]:
        """Return the figures that were measured by the names that JSON and tables use."""
        named = zip(_keys(Beyond, *_AT_TEN), asdict(self).values(), strict=True)
        return {name: value for name, value in named if value is not None}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a recommender takes."""

    train_seconds: float
    """Wall time of the stages that trained it."""
    milliseconds_a_user: float
    """Wall time of a question, in batches."""
    peak_memory_mb: float | None = None
    """The largest resident size of any stage that trained it, where it was measured apart from others."""
    peak_cpu_threads: float | None = None
    """The most processor seconds a second that any stage took."""

    def to_json(self) -> dict[str, float]:
        """Return the figures that were measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One recommender's figures in one run, or their means over several runs."""

    recommender: str
    seen: Seen
    accuracy: Mapping[str, Estimate]
    """By metric, with bootstrap intervals over users."""
    coverage: float
    """Share of the catalogue that is in the first ten items of any slate."""
    beyond: Beyond | None = None
    cost: Cost | None = None
    deviation: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation of each measure over runs; empty for one run, which has none."""
    runs: int = 1
    """How many runs the figures are means of."""

    @property
    def measures(self) -> dict[str, float]:
        """Every figure by its name, without intervals."""
        return {
            **{name: estimate.value for name, estimate in self.accuracy.items()},
            "coverage": self.coverage,
            **(self.beyond.to_json() if self.beyond else {}),
            **(self.cost.to_json() if self.cost else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the row as ``recsys evaluate --json`` writes it; ``std`` is ``{}`` for one run."""
        return {
            "recommender": self.recommender,
            "seen": self.seen,
            **self.measures,
            "std": dict(self.deviation),
            "interval": {name: [estimate.low, estimate.high] for name, estimate in self.accuracy.items()},
            "runs": self.runs,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "EvaluationRow":
        """Read what :meth:`to_json` wrote."""
        intervals: Mapping[str, Sequence[float]] = row["interval"]
        beyond = {name.removesuffix("@10"): row[name] for name in _keys(Beyond, *_AT_TEN) if name in row}
        cost = {name: row[name] for name in _keys(Cost) if name in row}
        return cls(
            recommender=row["recommender"],
            seen=row["seen"],
            accuracy={n: Estimate(value=row[n], low=low, high=high) for n, (low, high) in intervals.items()},
            coverage=row["coverage"],
            beyond=Beyond(**beyond) if beyond else None,
            cost=Cost(**cost) if cost else None,
            deviation=row["std"],
            runs=row.get("runs", 1),
        )


@dataclass(frozen=True, kw_only=True)
class PairedRow:
    """One recommender's figures minus another's, user by user or event by event."""

    recommender: str
    compared_with: str
    """The recommender whose figures are subtracted."""
    group: str
    """On which users or events: kept or removed seen items, or a replay's slice."""
    difference: Mapping[str, Estimate]
    """By metric, with paired bootstrap intervals."""

    def to_json(self, group: str) -> dict[str, Any]:
        """Return the row with its metrics beside its names; the group stands under the given name."""
        names = {"recommender": self.recommender, "compared_with": self.compared_with, group: self.group}
        return names | {name: estimate.to_json() for name, estimate in self.difference.items()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any], group: str) -> "PairedRow":
        """Read what :meth:`to_json` wrote."""
        return cls(
            recommender=row["recommender"],
            compared_with=row["compared_with"],
            group=row[group],
            difference=estimates(row),
        )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A run evaluated leave-one-out, or several runs together."""

    dataset: str
    split: str
    users: int
    items: int
    seeds: tuple[int, ...]
    rows: tuple[EvaluationRow, ...]
    paired: tuple[PairedRow, ...] = ()
    """Ours against each other row; only where several runs are evaluated together."""
    protocol: str = "leave-one-out"
    """How the log was divided into training and questions."""

    def row(self, recommender: str, seen: Seen = "removed") -> EvaluationRow:
        """Return one recommender's row.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if (row.recommender, row.seen) == (recommender, seen):
                return row
        raise KeyError(f"rows must hold {recommender} with seen items {seen}, got {[r.recommender for r in self.rows]}")

    def to_json(self) -> dict[str, Any]:
        """Return the result as ``recsys evaluate --json`` writes it."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "protocol": self.protocol,
            "users": self.users,
            "items": self.items,
            "seeds": list(self.seeds),
            "rows": [row.to_json() for row in self.rows],
        } | ({"paired": [row.to_json("seen") for row in self.paired]} if self.paired else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Evaluation":
        """Read what :meth:`to_json` wrote.

        Raises:
            ArtifactError: a key is missing.
        """
        try:
            return cls(
                dataset=values["dataset"],
                split=values["split"],
                users=values["users"],
                items=values["items"],
                seeds=tuple(values["seeds"]),
                rows=tuple(EvaluationRow.from_json(row) for row in values["rows"]),
                protocol=values.get("protocol", "leave-one-out"),
                paired=tuple(_paired_rows(values)),
            )
        except KeyError as error:
            raise ArtifactError(f"an evaluation must have the key {error}; run `recsys evaluate` again") from error


def mean_row(rows: Sequence[EvaluationRow], *, name: str, accuracy: Mapping[str, Estimate]) -> EvaluationRow:
    """Return the means of one recommender's rows over runs, with their deviation (n - 1); accuracy is handed in."""
    measured = [row.measures for row in rows]
    shared = [measure for measure in measured[0] if all(measure in other for other in measured)]
    deviation = (
        {key: float(np.std([each[key] for each in measured], ddof=1)) for key in shared} if len(rows) > 1 else {}
    )
    return EvaluationRow(
        recommender=name,
        seen=rows[0].seen,
        accuracy=accuracy,
        coverage=float(np.mean([row.coverage for row in rows])),
        beyond=_mean_part([row.beyond for row in rows]),
        cost=_mean_part([row.cost for row in rows]),
        deviation=deviation,
        runs=len(rows),
    )


_Part = TypeVar("_Part", Beyond, Cost)


def _mean_part(parts: Sequence[_Part | None]) -> _Part | None:
    """Return the mean of each figure that all parts have; None where a part is missing."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    columns = {item.name: [getattr(part, item.name) for part in known] for item in fields(known[0])}
    means = {name: float(np.mean(values)) for name, values in columns.items() if None not in values}
    return type(known[0])(**means)


def _keys(kind: type[Beyond] | type[Cost], *at_ten: str) -> list[str]:
    """Return the JSON names of a part's figures."""
    return [f"{item.name}@10" if item.name in at_ten else item.name for item in fields(kind)]


def estimates(row: Mapping[str, Any]) -> dict[str, Estimate]:
    """Return the values of a row that are estimates, by their names."""
    return {name: Estimate(**value) for name, value in row.items() if isinstance(value, Mapping)}


def _paired_rows(values: Mapping[str, Any]) -> Iterator[PairedRow]:
    """Yield the paired rows of a saved evaluation; under ``against`` both names stand the other way round."""
    for row in values.get("paired", ()):
        yield PairedRow.from_json(row, "seen")
    for row in values.get("against", ()):
        turned = {"recommender": row["compared_with"], "compared_with": row["recommender"]}
        yield PairedRow.from_json({**row, **turned}, "seen")
