"""Runs side by side, oldest first: what each is worth, and what changed from one to the next."""

import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.changes import changes
from pipelines.record import read_records
from pipelines.releases import ReleaseRecommender
from pipelines.report.page import environment, made
from pipelines.report.parts import Part, read
from pipelines.stages.evaluate import OURS
from recsys.core.artifacts import atomic_file, require
from recsys.core.errors import CallError
from recsys.core.places import require_writable_folder
from recsys.data import schema
from recsys.data.prepare import Prepared, load_prepared
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.results import Evaluation, EvaluationRow
from recsys.recommender.manifest import read_manifest

METRICS = ("recall@10", "ndcg@10")
NOT_SET = "not there"
_UNTOLD = ("update.previous", "update.updates")
"""Settings that an update writes and nobody sets."""


def write_comparison(runs: Sequence[Path]) -> Path:
    """Write ``reports/beside.html`` in the last run and return its path.

    Args:
        runs: run folders, oldest first; those before the last may be published releases (``RUN/releases/VERSION``),
            of which there are slates and nothing else to compare.

    Raises:
        CallError: fewer than two runs.
        ArtifactError: a folder is neither a run nor a release.
    """
    if len(runs) < 2:
        raise CallError(f"a comparison must have at least two runs, got {len(runs)}; name another")
    for run in runs[:-1]:
        require(bundle_of(run) / "manifest.json", remedy="name a trained run or a published release")
    last = runs[-1]
    require(last / "recipe.toml", remedy=f"the last must be a run; make one with `recsys train DATA --to {last}`")
    text = (
        environment()
        .get_template("beside.html.j2")
        .render(
            names=[run.resolve().name for run in runs],
            ours=OURS,
            runs=[_summary(run) for run in runs],
            pairs=[_pair(before, after) for before, after in pairwise(runs)],
            not_set=NOT_SET,
        )
    )
    path = require_writable_folder(last / "reports") / "beside.html"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def bundle_of(run: Path) -> Path:
    """Return the bundle of a run, or a release's own folder."""
    return run / "bundle" if (run / "recipe.toml").exists() else run


def _summary(run: Path) -> Part:
    """Return one line about a run: version, sizes, the last day of its log, its figure, and what the gate said."""
    ours = made(run, _own_row)
    gate = made(run, lambda folder: read(folder, "reports/gate.json", "recsys publish"))
    data = made(run, lambda folder: read(folder, "data/report.json"))
    return {
        "name": run.resolve().name,
        "version": read_manifest(bundle_of(run)).model_version,
        "sizes": {key: data[key] for key in ("users", "items", "events")} if "missing" not in data else {},
        "until": "" if "missing" in data else _last_day(load_prepared(run / "data")),
        "figure": ours.get("row"),
        "protocol": ours.get("protocol", ""),
        "gate": "" if "missing" in gate else ("passed" if gate["passed"] else "refused"),
    }


def _own_row(run: Path) -> Part:
    result = Evaluation.from_json(read(run, "reports/evaluation.json", "recsys evaluate"))
    found = [row for row in result.rows if row.recommender == OURS and row.seen == "removed"]
    return {"row": found[0].accuracy["ndcg@10"] if found else None, "protocol": result.protocol}


def _last_day(prepared: Prepared) -> str:
    return f"{datetime.fromtimestamp(int(prepared.log.timestamps_E.max()), UTC):%Y-%m-%d}"


def _pair(before: Path, after: Path) -> Part:
    """Return what changed from one run to the next; a part that cannot be made says what it lacks."""

    def of_both(build: Any) -> Part:
        return made(after, lambda _: build(before, after))

    return {
        "names": (before.resolve().name, after.resolve().name),
        "settings": of_both(changed_settings),
        "data": of_both(changed_data),
        "metrics": of_both(changed_metrics),
        "stages": of_both(changed_stages),
        "slates": of_both(changed_slates),
    }


def changed_settings(before: Path, after: Path) -> Part:
    """Return the settings whose values differ, and versions of what the stages ran on, with both values."""
    old, new = _settings(before), _settings(after)
    rows = [
        (key, old.get(key, NOT_SET), new.get(key, NOT_SET))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in _UNTOLD
    ]
    return {"rows": rows}


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


def changed_data(before: Path, after: Path) -> Part:
    """Return the sizes of both logs, who and what is new or gone by id, and what the after's day report says."""
    old, new = _prepared(before), _prepared(after)
    logs = old.log, new.log
    sizes = [
        ("users", *(log.num_users for log in logs)),
        ("items", *(log.num_items for log in logs)),
        ("events", *(len(log.items_E) for log in logs)),
    ]
    ids = [(set(one.user_ids), set(one.items[schema.ITEM].to_pylist())) for one in (old, new)]
    come_and_gone = [
        (f"{name} that {verb}", len(ids[first][place] - ids[second][place]))
        for place, name in enumerate(("users", "items"))
        for verb, first, second in (("are new", 1, 0), ("are gone", 0, 1))
    ]
    day = made(after, lambda folder: read(folder, "reports/day.json", "recsys update"))
    return {
        "sizes": sizes,
        "ids": come_and_gone,
        "until": (_last_day(old), _last_day(new)),
        "day": "" if "missing" in day else day["sentence"],
    }


def _prepared(run: Path) -> Prepared:
    return load_prepared(require(run / "data", remedy="a release has no log; name its run to compare data"))


def changed_metrics(before: Path, after: Path) -> Part:
    """Return every recommender's figures in both evaluations, and whether both were asked the same questions."""
    results = [Evaluation.from_json(read(run, "reports/evaluation.json", "recsys evaluate")) for run in (before, after)]
    rows = [{(row.recommender, row.seen): row for row in result.rows} for result in results]
    lines = [
        {"recommender": name, "seen": seen, "figures": [_figures(side[name, seen]) for side in rows]}
        for name, seen in rows[1]
        if (name, seen) in rows[0]
    ]
    asked = [(one.protocol, one.users, one.items) for one in results]
    return {"rows": lines, "same": asked[0] == asked[1], "asked": asked}


def _figures(row: EvaluationRow) -> dict[str, Any]:
    return {metric: row.accuracy[metric] for metric in METRICS}


def changed_stages(before: Path, after: Path) -> Part:
    """Return for each stage of the after whether it left the same files, and the seconds it took in both."""
    for run in (before, after):
        require(run / "recipe.toml", remedy="a release has no stages; name its run to compare them")
    sides = [read_records(run) for run in (before, after)]
    rows = [
        (
            name,
            "new" if name not in sides[0] else "same files" if sides[0][name].files == record.files else "other files",
            sides[0][name].seconds if name in sides[0] else None,
            record.seconds,
        )
        for name, record in sides[1].items()
    ]
    return {"rows": rows}


def changed_slates(before: Path, after: Path) -> Part:
    """Return who enters and leaves the first ten, and for which users, asked with the after's log."""
    prepared = load_prepared(after / "data")
    items = Vocabulary(prepared.items[schema.ITEM].to_pylist())
    both = [ReleaseRecommender.load(bundle_of(run), items, name=name) for run, name in ((before, "a"), (after, "b"))]
    known = load_prepared(before / "data").users if (before / "data").exists() else None
    return changes(both, prepared, seed=0, known=None if known is None else set(known.ids)).to_json()
