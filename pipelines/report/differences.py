"""What changed from one run to the next: settings, data, figures, stages and slates."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.changes import SlateChanges, changes
from pipelines.record import StageRecord, read_records
from pipelines.releases import ReleaseRecommender
from pipelines.report.run_files import Missing, made, read
from recsys.core.artifacts import require
from recsys.data import schema
from recsys.data.prepare import Prepared, load_prepared
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.results import Evaluation, EvaluationRow

NOT_SET = "not there"
_WRITTEN_BY_UPDATES = ("update.previous", "update.updates")
"""Settings that an update writes; they are not compared."""


def bundle_of(run: Path) -> Path:
    """Return the bundle of a run, or a release's own folder."""
    return run / "bundle" if (run / "recipe.toml").exists() else run


def last_day(prepared: Prepared) -> str:
    """Return the date of a log's latest event."""
    return f"{datetime.fromtimestamp(int(prepared.log.timestamps_E.max()), UTC):%Y-%m-%d}"


@dataclass(frozen=True, kw_only=True)
class ChangedSetting:
    """A setting, or a version of what stages ran on, with both values as text."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class ChangedSize:
    """How many users, items or events there are in both logs."""

    what: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class ChangedData:
    """The sizes of both logs, how many users and items are new or gone, and both last days.

    ``day`` is the sentence of the later run's day report, empty where it has none.
    """

    sizes: Sequence[ChangedSize]
    come_and_gone: Mapping[str, int]
    until: tuple[str, str]
    day: str


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One recommender in both evaluations."""

    recommender: str
    seen: str
    before: EvaluationRow
    after: EvaluationRow


@dataclass(frozen=True, kw_only=True)
class ChangedMetrics:
    """The recommenders that both evaluations have, and whether both have the same questions."""

    rows: Sequence[ComparedRow]
    before: Evaluation
    after: Evaluation

    @property
    def same_questions(self) -> bool:
        """Whether protocol, number of users and number of items are equal."""
        first, second = ((one.protocol, one.users, one.items) for one in (self.before, self.after))
        return first == second


@dataclass(frozen=True, kw_only=True)
class ChangedStage:
    """A stage of the later run: whether it left the files that the earlier one's left, and the seconds of both."""

    name: str
    files: str
    seconds_before: float | None
    seconds_after: float


def changed_settings(before: Path, after: Path) -> list[ChangedSetting]:
    """Return the settings whose values differ, and versions of what the stages ran on, with both values."""
    old, new = _settings(before), _settings(after)
    return [
        ChangedSetting(key=key, before=old.get(key, NOT_SET), after=new.get(key, NOT_SET))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in _WRITTEN_BY_UPDATES
    ]


def _settings(run: Path) -> dict[str, str]:
    path = require(run / "recipe.toml", remedy="a release has no recipe; name its run to compare settings")
    found = _flat(tomllib.loads(path.read_text(encoding="utf-8")))
    for record in read_records(run).values():
        found |= {f"version of {name}": version for name, version in record.versions.items()}
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings by dotted keys, values as text: ``{"a": {"b": 1}}`` becomes ``{"a.b": "1"}``."""
    found: dict[str, str] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": str(value)}
    return found


def changed_data(before: Path, after: Path) -> ChangedData:
    """Return the sizes of both logs, who and what is new or gone by id, and the after's day report."""
    old, new = _prepared(before), _prepared(after)
    sizes = [
        ChangedSize(what="users", before=old.log.num_users, after=new.log.num_users),
        ChangedSize(what="items", before=old.log.num_items, after=new.log.num_items),
        ChangedSize(what="events", before=len(old.log.items_E), after=len(new.log.items_E)),
    ]
    ids = [(set(one.user_ids), set(one.items[schema.ITEM].to_pylist())) for one in (old, new)]
    come_and_gone = {
        f"{name} that {verb}": len(ids[first][place] - ids[second][place])
        for place, name in enumerate(("users", "items"))
        for verb, first, second in (("are new", 1, 0), ("are gone", 0, 1))
    }
    day = made(lambda folder: read(folder, "reports/day.json", "recsys update"), after)
    return ChangedData(
        sizes=sizes,
        come_and_gone=come_and_gone,
        until=(last_day(old), last_day(new)),
        day="" if isinstance(day, Missing) else day["sentence"],
    )


def _prepared(run: Path) -> Prepared:
    return load_prepared(require(run / "data", remedy="a release has no log; name its run to compare data"))


def changed_metrics(before: Path, after: Path) -> ChangedMetrics:
    """Return both evaluations, and the rows of every recommender that is in both."""
    old, new = (
        Evaluation.from_json(read(run, "reports/evaluation.json", "recsys evaluate")) for run in (before, after)
    )
    known = {(row.recommender, row.seen): row for row in old.rows}
    rows = [
        ComparedRow(recommender=row.recommender, seen=row.seen, before=known[row.recommender, row.seen], after=row)
        for row in new.rows
        if (row.recommender, row.seen) in known
    ]
    return ChangedMetrics(rows=rows, before=old, after=new)


def changed_stages(before: Path, after: Path) -> list[ChangedStage]:
    """Return for each stage of the after whether it left the same files, and the seconds it took in both."""
    for run in (before, after):
        require(run / "recipe.toml", remedy="a release has no stages; name its run to compare them")
    old = read_records(before)
    return [_changed_stage(name, old.get(name), record) for name, record in read_records(after).items()]


def _changed_stage(name: str, before: StageRecord | None, after: StageRecord) -> ChangedStage:
    if before is None:
        return ChangedStage(name=name, files="new", seconds_before=None, seconds_after=after.seconds)
    files = "same files" if before.files == after.files else "other files"
    return ChangedStage(name=name, files=files, seconds_before=before.seconds, seconds_after=after.seconds)


def changed_slates(before: Path, after: Path) -> SlateChanges:
    """Return who enters and leaves the first ten, and for which users, by the after's log."""
    prepared = load_prepared(after / "data")
    items = Vocabulary(prepared.items[schema.ITEM].to_pylist())
    both = [ReleaseRecommender.load(bundle_of(run), items, name=name) for run, name in ((before, "a"), (after, "b"))]
    known = load_prepared(before / "data").users if (before / "data").exists() else None
    return changes(both, prepared, seed=0, known=None if known is None else set(known.ids))
