"""The sections about pre-training: losses by epoch, precision by layer, training on a part of the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pipelines.benches.pruning import CURVE, Student
from pipelines.report import plots
from pipelines.report.run_files import numbers, read
from recsys.model.ladq import Decision, LayerCost


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A layer as the latest choice of precision measured it, and in how many choices it was in bf16."""

    layer: str
    sensitivity: float
    share: float
    """Of a step's seconds, in fp32."""
    faster: float
    """How many times faster it is in bf16."""
    bf16: int
    choices: int


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """Curves by epoch, what calibration chose, and which layers were in bf16, if precision was chosen by layer."""

    epochs: int
    plots: Sequence[Markup]
    chosen: Mapping[str, float]
    precision: Sequence[LayerRow]
    decisions: Sequence[Markup]


def training(run: Path) -> TrainingSection:
    """Return one curve a figure that every epoch of the training has, and what was then chosen for the item head."""
    figures = read(run, "model/training.json")
    epochs = figures["epochs"]
    chosen = read(run, "calibrated/calibration.json")
    names = [name for name, value in epochs[0].items() if isinstance(value, int | float)] if epochs else []
    shown = [name for name in names if name != "epoch" and all(name in epoch for epoch in epochs)]
    decisions = [Decision.from_json(one) for one in figures.get("precision", [])]
    return TrainingSection(
        epochs=len(epochs),
        plots=[plots.curve([epoch[name] for epoch in epochs], name) for name in shown],
        chosen=numbers(chosen),
        precision=_precision(decisions),
        decisions=_decisions(decisions),
    )


def _precision(decisions: Sequence[Decision]) -> list[LayerRow]:
    """Return a row for each layer, the largest share of a step first."""
    return [
        LayerRow(
            layer=cost.layer,
            sensitivity=cost.sensitivity,
            share=cost.share,
            faster=cost.seconds_fp32 / cost.seconds_bf16,
            bf16=sum(cost.layer in decision.bf16 for decision in decisions),
            choices=len(decisions),
        )
        for cost in _by_share(decisions)
    ]


def _decisions(decisions: Sequence[Decision]) -> list[Markup]:
    """Draw which layers each choice gave bf16, and by how much it was expected to move the loss, and did."""
    if not decisions:
        return []
    bf16 = {cost.layer: [cost.layer in one.bf16 for one in decisions] for cost in _by_share(decisions)}
    steps = [f"{one.step:,}" for one in decisions]
    moved = {
        "budget": [one.budget for one in decisions],
        "measured": [abs(one.measured_change) for one in decisions],
        "expected": [one.expected_rise for one in decisions],
    }
    return [
        plots.filled(bf16, "layers in bf16", marks=steps, across="step of the choice"),
        plots.lines(moved, "change of the loss by bf16", marks=steps, main="measured"),
    ]


def _by_share(decisions: Sequence[Decision]) -> list[LayerCost]:
    """Return the layers as the latest choice measured them, the largest share of a step first."""
    return sorted(decisions[-1].layers, key=lambda cost: -cost.share) if decisions else []


@dataclass(frozen=True, kw_only=True)
class DataPruningSection:
    """How many validation users ranked, and NDCG@10 and processor seconds by the share of users trained on."""

    users: int
    plots: Sequence[Markup]


def data_pruning(run: Path) -> DataPruningSection:
    """Return what training on a part of the log costs and saves, as `recsys bench pruning` measured it."""
    found = read(run, str(CURVE), made_by="recsys bench pruning --run")
    points = [Student(**each) for each in found["points"]]
    whole = points[0]
    across = "share of users trained on"
    drawn = [
        plots.trade_off(_by_choice(points, taught=taught), f"NDCG@10, {label}", across=across, level=whole.ndcg)
        for taught, label in _TEACHER.items()
    ]
    seconds = {label: _mean_seconds(points, taught=taught) for taught, label in _TEACHER.items()}
    cost = plots.trade_off(seconds, "processor seconds", across=across)
    return DataPruningSection(users=found["users"], plots=[*drawn, cost])


_TEACHER = {False: "without the teacher", True: "with the teacher"}


def _by_choice(points: list[Student], *, taught: bool) -> dict[str, list[tuple[float, float]]]:
    """Return NDCG@10 by share for each choice of users; at the whole log all choices meet."""
    shown = [one for one in points if one.taught == taught]
    return {
        prefer: [(one.keep, one.ndcg) for one in shown if one.prefer == prefer or one.keep == 1]
        for prefer in dict.fromkeys(one.prefer for one in points if one.keep < 1)
    }


def _mean_seconds(points: list[Student], *, taught: bool) -> list[tuple[float, float]]:
    """Return the mean processor seconds by share, whichever users were chosen."""
    shares: dict[float, list[float]] = {}
    for one in points:
        if one.taught == taught:
            shares.setdefault(one.keep, []).append(one.cpu_seconds)
    return [(share, sum(each) / len(each)) for share, each in shares.items()]
