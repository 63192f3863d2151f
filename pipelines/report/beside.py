"""Runs side by side, oldest first: the figures of each, and what changed from one to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipelines.changes import SlateChanges
from pipelines.report.differences import (
    NOT_SET,
    ChangedData,
    ChangedMetrics,
    ChangedSetting,
    ChangedStage,
    bundle_of,
    changed_data,
    changed_metrics,
    changed_settings,
    changed_slates,
    changed_stages,
    last_day,
)
from pipelines.report.page import environment
from pipelines.report.run_files import Missing, made, read
from pipelines.stages.evaluate import OURS
from recsys.core.artifacts import atomic_file, require
from recsys.core.errors import CallError
from recsys.core.writable import require_writable_folder
from recsys.data.prepare import load_prepared
from recsys.evaluation.results import Estimate, Evaluation
from recsys.recommender.manifest import read_manifest


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


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One line about a run: version, sizes and last day of its log, our NDCG@10, and the gate's verdict.

    What the run lacks is empty, or None.
    """

    name: str
    version: str
    sizes: Mapping[str, int]
    until: str
    figure: Estimate | None
    gate: str


def _summary(run: Path) -> RunSummary:
    figure = made(_own_figure, run)
    gate = made(lambda folder: read(folder, "reports/gate.json", "recsys publish"), run)
    data = made(lambda folder: read(folder, "data/report.json"), run)
    return RunSummary(
        name=run.resolve().name,
        version=read_manifest(bundle_of(run)).model_version,
        sizes={} if isinstance(data, Missing) else {key: data[key] for key in ("users", "items", "events")},
        until="" if isinstance(data, Missing) else last_day(load_prepared(run / "data")),
        figure=None if isinstance(figure, Missing) else figure,
        gate="" if isinstance(gate, Missing) else ("passed" if gate["passed"] else "refused"),
    )


def _own_figure(run: Path) -> Estimate | None:
    """Return our NDCG@10 with its interval, seen items removed."""
    result = Evaluation.from_json(read(run, "reports/evaluation.json", "recsys evaluate"))
    found = [row for row in result.rows if row.recommender == OURS and row.seen == "removed"]
    return found[0].accuracy["ndcg@10"] if found else None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What changed from one run to the next; a comparison that cannot be made says what it lacks."""

    names: tuple[str, str]
    settings: Sequence[ChangedSetting] | Missing
    data: ChangedData | Missing
    metrics: ChangedMetrics | Missing
    stages: Sequence[ChangedStage] | Missing
    slates: SlateChanges | Missing


def _pair(before: Path, after: Path) -> Pair:
    return Pair(
        names=(before.resolve().name, after.resolve().name),
        settings=made(changed_settings, before, after),
        data=made(changed_data, before, after),
        metrics=made(changed_metrics, before, after),
        stages=made(changed_stages, before, after),
        slates=made(changed_slates, before, after),
    )
