"""The section about a replay: slices as small multiples, figures over time, what off-policy estimates say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipelines.report import plots
from pipelines.report.run_files import read
from pipelines.stages.evaluate import OURS
from recsys.core.errors import RecsysError
from recsys.evaluation.replay_results import Replay, ReplayRow

_MULTIPLES = 12
"""How many slices are drawn; the table has them all."""


@dataclass(frozen=True, kw_only=True)
class ReplaySection:
    """A replay, its rows by slice, plots by slice and over time, and the gate's verdict as ``gate.json`` holds it."""

    result: Replay
    metrics: Sequence[str]
    slices: Mapping[str, Sequence[ReplayRow]]
    shown: str
    """The metric that is drawn by slice; empty where there is none."""
    multiples: Sequence[Markup]
    over_time: Sequence[Markup]
    gate: Mapping[str, Any] | None


def replay(run: Path) -> ReplaySection:
    """Return a replay's tables and plots, and the gate's verdict where one was given."""
    result = Replay.from_json(read(run, "reports/replay.json", "recsys replay"))
    names = sorted({name for row in result.rows for name in row.figures})
    slices = {
        part: [row for row in result.rows if row.slice == part] for part in dict.fromkeys(r.slice for r in result.rows)
    }
    shown = names[0] if names else ""
    drawn = [
        plots.intervals(
            [(row.recommender, row.figures[shown], row.recommender == OURS) for row in rows],
            f"{part}, {result.events[part]:,} events",
        )
        for part, rows in list(slices.items())[:_MULTIPLES]
    ]
    return ReplaySection(
        result=result,
        metrics=names,
        slices=slices,
        shown=shown,
        multiples=drawn,
        over_time=[_over_time(result, name) for name in names] if len(_starts(result)) > 1 else [],
        gate=_gate(run),
    )


def _starts(result: Replay) -> list[int]:
    return sorted({row.start for row in result.over_time})


def _over_time(result: Replay, name: str) -> Markup:
    recommenders = dict.fromkeys(row.recommender for row in result.over_time)
    series = {
        recommender: [row.figures[name].value for row in result.over_time if row.recommender == recommender]
        for recommender in recommenders
    }
    days = [f"{datetime.fromtimestamp(start, UTC):%d %b %y}" for start in _starts(result)]
    return plots.lines(series, f"{name} over time", marks=days, main=OURS)


def _gate(run: Path) -> Mapping[str, Any] | None:
    try:
        verdict: Mapping[str, Any] = read(run, "reports/gate.json", "recsys publish")
    except RecsysError:
        return None
    return verdict
