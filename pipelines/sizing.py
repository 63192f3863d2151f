"""How much work a log is worth: settings that a recipe leaves open are sized by the log, and the time is estimated.

Axes: K row or column of a square matrix.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from pipelines.recipe import Recipe
from recsys.core.telemetry import LOG
from recsys.data import schema
from recsys.sequence.training import TrainingConfig

FULL_ALIGNMENT = 50_000
"""Events from which on alignment takes all its default steps; below, in proportion."""
FEWEST_STEPS = 10
"""Alignment's steps on the smallest logs."""
QUICK = {
    "data.max_events": 20_000,
    "tokenizer.epochs": 10,
    "member.epochs": 8,
    "fit.epochs": 2,
    "fit.final_epochs": 1,
    "experts.fit.epochs": 4,
    "tokens.distillation.epochs": 2,
    "tokens.pruning_users": 0,
    "alignment.steps": 0,
    "selection.max_users": 300,
    "evaluation.max_users": 1000,
    "baselines.fitted": ("popularity", "cooccurrence"),
}
"""What `recsys train --quick` sets where the recipe leaves it open: a first answer, not a good one."""

_STEP_SECONDS = 2.5
_FIXED_SECONDS = 15.0
_REFERENCE_RATE = 5e10
"""Floating point operations a second of one thread of the machine on which a step of alignment took 2.5 s."""
_SHARE_OF_PEAK = 0.3
"""What training reaches of the rate of a plain matrix product."""
_MATRIX = 512
_ENCODER_FLOPS = 6 * 12
"""Forward and backward operations per layer and squared width for one position of a Transformer."""

Section = TypeVar("Section", bound=BaseModel)
"""A recipe or one of its sections."""


@dataclass(frozen=True, kw_only=True)
class LogSize:
    """How large a data set is."""

    events: int
    items: int


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A recipe with its open settings filled in, and one sentence for each that changed."""

    recipe: Recipe
    changes: tuple[str, ...]


def log_size(data: Path) -> LogSize | None:
    """Return the size of a data set from its files' headers; None where they cannot be read, which a stage will say."""
    try:
        events = pq.read_metadata(data / schema.INTERACTIONS).num_rows
        items = data / schema.ITEMS
        return LogSize(events=events, items=pq.read_metadata(items).num_rows if items.exists() else events)
    except (OSError, pa.ArrowException, ValueError):
        return None


def sized(recipe: Recipe, size: LogSize, *, quick: bool = False) -> Sized:
    """Size what the recipe leaves open; a setting that a recipe or ``--set`` names stays.

    On small logs alignment takes fewer steps: in proportion to the events below :data:`FULL_ALIGNMENT`, at least
    :data:`FEWEST_STEPS`.
    """
    wanted: dict[str, object] = dict(QUICK) if quick else {}
    if not quick and size.events < FULL_ALIGNMENT:
        most = recipe.alignment.steps
        wanted["alignment.steps"] = min(most, max(FEWEST_STEPS, round(most * size.events / FULL_ALIGNMENT)))
    changes = []
    for key, value in wanted.items():
        *sections, name = key.split(".")
        before = open_value(recipe, sections, name)
        if before is not None and before != value:
            recipe = with_setting(recipe, sections, name, value)
            words = f"{key}={_shown(value)} (else {_shown(before)})"
            changes.append(words if quick else f"{key} is {_shown(value)} instead of {_shown(before)}{_reason(size)}")
    return Sized(recipe=recipe, changes=tuple(changes))


def open_value(config: BaseModel, sections: Sequence[str], name: str) -> object | None:
    """Return a setting's value by its section's path, or None where somebody named it or the section lacks it."""
    for section in sections:
        config = getattr(config, section)
    return None if name in config.model_fields_set else getattr(config, name, None)


def with_setting(config: Section, sections: Sequence[str], name: str, value: object) -> Section:
    """Return a copy of a recipe or section with one setting of a section below it changed."""
    if not sections:
        return config.model_copy(update={name: value})
    below = with_setting(getattr(config, sections[0]), sections[1:], name, value)
    return config.model_copy(update={sections[0]: below})


def sized_for(data: Path, recipe: Recipe, *, quick: bool) -> Recipe:
    """Return the recipe sized for a data set, after saying what changed and about how long training takes."""
    size = log_size(data)
    if size is None:
        return recipe
    result = sized(recipe, size, quick=quick)
    if result.changes:
        LOG.info("recipe: %s%s", "--quick sets " if quick else "", ", ".join(result.changes))
    LOG.info("training: %s", in_words(estimated_seconds(result.recipe, size, rate=measured_rate())))
    return result.recipe


def _reason(size: LogSize) -> str:
    return f", because the log has {size.events:,} events (all from {FULL_ALIGNMENT:,} on)"


def _shown(value: object) -> str:
    return json.dumps(value) if isinstance(value, tuple) else str(value)


def estimated_seconds(recipe: Recipe, size: LogSize, *, rate: float) -> dict[str, float]:
    """Return a rough estimate of the seconds of the stages that take long.

    Networks are counted in floating point operations, alignment in steps.

    Args:
        recipe: as it will run.
        size: of the log.
        rate: floating point operations a second, as :func:`measured_rate` returns.
    """
    events = min(size.events, recipe.data.max_events or size.events)
    model, member, tokens = recipe.model, recipe.member, recipe.experts.model
    answers = size.items if not member.negatives else min(size.items, member.negatives + member.batch_positions)
    network = _flops(model.layers, model.width, size.items)
    small = _flops(member.layers, member.width, answers)
    learned = _passed(recipe.experts.fit, events) * _flops(tokens.layers, tokens.width, size.items)
    distilled = sum(expert.distilled for expert in recipe.experts.trained)
    # the teacher scores each history once and extended; a history has as many positions as events, and one answer
    positions = events * (1 + recipe.tokens.distillation.extended)
    student = _passed(recipe.tokens.distillation, positions) * _flops(tokens.layers, tokens.width, 0)
    usable = rate * _SHARE_OF_PEAK
    return {
        "member": (1 + recipe.further_members) * _passed(member, events) * small / usable,
        "model": events * (recipe.fit.epochs + recipe.fit.final_epochs) * network / usable,
        "experts": len(recipe.experts.trained) * learned / usable,
        "students": distilled * student / usable,
        "aligned": recipe.alignment.steps * _STEP_SECONDS * _REFERENCE_RATE / rate,
        "the rest": _FIXED_SECONDS * _REFERENCE_RATE / rate,
    }


def _passed(config: TrainingConfig, positions: int) -> int:
    """Return how many positions a training passes, within its limit of steps."""
    return positions * config.passes(max(1, positions // config.batch_positions))


def _flops(layers: int, width: int, answers: int) -> int:
    """Return the operations of training at one position: an encoder's, and those of a softmax over some answers."""
    return _ENCODER_FLOPS * layers * width**2 + 6 * answers * width


def measured_rate(seconds: float = 0.1) -> float:
    """Return how many floating point operations a second this process reaches in plain matrix products."""
    left_KK = np.ones((_MATRIX, _MATRIX), np.float32)
    begun, products = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        left_KK @ left_KK
        products += 1
    return 2 * _MATRIX**3 * products / (time.perf_counter() - begun)


def in_words(seconds: dict[str, float]) -> str:
    """Say an estimate, e.g. ``about 3 min (aligned 2 min, member 40 s); a rough guess``."""
    parts = sorted(seconds.items(), key=lambda part: -part[1])
    largest = ", ".join(f"{name} {_duration(value)}" for name, value in parts if value >= 1)
    return f"about {_duration(sum(seconds.values()))} ({largest}); a rough guess"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
