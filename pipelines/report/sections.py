"""The sections about a run's data, evaluation, alignment, paths and costs.

The function of a section reads what it needs, and returns what the template shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pipelines.benches.curves import CurvePoint
from pipelines.record import read_records
from pipelines.report import plots
from pipelines.report.run_files import numbers, read
from pipelines.stages.evaluate import OURS
from recsys.core.errors import ArtifactError
from recsys.evaluation.results import Evaluation, EvaluationRow


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The data set's sizes, the rows that were read, and how many of them were left out, by cause."""

    sizes: Mapping[str, int]
    rows_read: int
    left_out: Mapping[str, int]


def headline(run: Path) -> Headline:
    """Return the data set's sizes and what preparing it left out, by cause."""
    report = read(run, "data/report.json")
    left_out = {cause: count for cause, count in report.get("bad_rows", {}).items() if count}
    for key, words in (
        ("rows_below_min_rating", "rated too low"),
        ("rows_outside_core", "outside the core of active users and items"),
    ):
        if report.get(key):
            left_out[words] = report[key]
    sizes = {key: report[key] for key in ("users", "items", "events")}
    return Headline(sizes=sizes, rows_read=report["rows_read"], left_out=left_out)


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """An evaluation, its rows by how seen items were treated, and a plot of Recall@10 for each such group."""

    result: Evaluation
    groups: Mapping[str, Sequence[EvaluationRow]]
    plots: Sequence[Markup]


def evaluation(run: Path) -> EvaluationSection:
    """Return the rows of the evaluation by how seen items were treated, with intervals drawn."""
    result = Evaluation.from_json(read(run, "reports/evaluation.json", "recsys evaluate"))
    groups: dict[str, list[EvaluationRow]] = {
        seen: [row for row in result.rows if row.seen == seen]
        for seen in dict.fromkeys(row.seen for row in result.rows)
    }
    drawn = [
        plots.intervals(
            [(row.recommender, row.accuracy["recall@10"], row.recommender == OURS) for row in rows],
            f"Recall@10, seen items {seen}",
        )
        for seen, rows in groups.items()
    ]
    return EvaluationSection(result=result, groups=groups, plots=drawn)


@dataclass(frozen=True, kw_only=True)
class MeanReward:
    """A reward's mean over sampled paths before alignment and after it."""

    name: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class AlignmentSection:
    """Mean rewards, the other figures of alignment's summary by name, and its curves by step."""

    rewards: Sequence[MeanReward]
    others: Mapping[str, float]
    plots: Sequence[Markup]


_REWARDS = ("rewards_before", "rewards_after")
_STEP_CURVES = {
    "reward": "reward",
    "group_hits": "groups that hit",
    "flat_groups": "flat groups",
    "kl": "divergence",
    "entropy": "entropy",
}


def alignment(run: Path) -> AlignmentSection:
    """Return each reward before and after alignment, and the other figures of its summary."""
    summary = read(run, "aligned/alignment.json")
    before, after = (summary.get(key, {}) for key in _REWARDS)
    steps = summary.get("steps", [])
    drawn = [name for name in _STEP_CURVES if steps and all(name in step for step in steps)]
    return AlignmentSection(
        rewards=[MeanReward(name=name, before=before[name], after=after[name]) for name in before if name in after],
        others=numbers({name: value for name, value in summary.items() if name not in _REWARDS}),
        plots=[plots.curve([step[name] for step in steps], _STEP_CURVES[name], each="step") for name in drawn],
    )


@dataclass(frozen=True, kw_only=True)
class CurvesSection:
    """How many users ranked and how many calls were timed, and plots by number of paths and by threshold."""

    users: int
    timed: int
    plots: Sequence[Markup]


_PATH_CURVES = {
    "beam": "paths",
    "effort": "perplexity of the answer for which a history gets one path",
    "theta": "threshold, as a quantile of the divergences seen",
}
_PATH_FIGURES = {"ndcg@10": "NDCG@10 of what paths propose", "milliseconds": "milliseconds a user"}


def curves(run: Path) -> CurvesSection:
    """Return what more paths and stricter pruning give and cost, as `recsys bench curves` measured them."""
    found = read(run, "reports/curves.json", made_by="recsys bench curves --run")
    drawn = []
    for by, across in _PATH_CURVES.items():
        points = [point for point in map(CurvePoint.from_json, found["points"]) if point.by == by]
        for name, title in _PATH_FIGURES.items() if points else ():
            marks = [(f"{point.at:g}", point.figures[name]) for point in points]
            drawn.append(plots.marked(marks, title, across=across))
    return CurvesSection(users=found["users"], timed=found["timed"], plots=drawn)


@dataclass(frozen=True, kw_only=True)
class CostsSection:
    """Seconds of each stage, other timings by stage, bytes of each folder, and versions by package."""

    stages: Mapping[str, float]
    timings: Mapping[str, Mapping[str, float]]
    sizes: Mapping[str, int]
    versions: Mapping[str, str]


def costs(run: Path) -> CostsSection:
    """Return the seconds of each stage, other timings that were kept, the bytes of each folder and the versions.

    The reports are left out of the bytes, so that a page written twice is the same.
    """
    records = read_records(run)
    if not records:
        raise ArtifactError(f"{run / 'manifest.json'} must name finished stages; run `recsys train DATA --to {run}`")
    folders = sorted(path for path in run.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "reports")
    return CostsSection(
        stages={name: record.seconds for name, record in records.items()},
        timings={name: record.timings for name, record in records.items() if record.timings},
        sizes={
            folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in folders
        },
        versions=next((record.versions for record in records.values() if record.versions), {}),
    )
