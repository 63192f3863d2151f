"""Bench scale: a made-up log from its files to tokens and training steps, at a tenth of a size and in full.

Every step runs in a process of its own, so that its peak memory is its own. It has one thread and its processor time
is counted, which is the same on a busy machine. The recipe is the default one without the
co-occurrence prior, whose pairs alone would outgrow the memory, with ten epochs of the tokenizer, whose epochs are
longer too, and without a bound on what codebooks share, for the made-up items differ in little but their category.
A bench that is killed goes on behind its last finished step when it is given a folder.
"""

import json
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pipelines.benches.large_log import MadeUpSize, write_large_log
from pipelines.benches.measure import Line
from pipelines.benches.training_world import TrainingWorld
from pipelines.execute import Plan
from pipelines.flow import STAGES, claim_run
from pipelines.importing import run_import
from pipelines.recipe import load_recipe, save_recipe
from pipelines.record import read_records
from pipelines.runtime import run_stages
from recsys.core.artifacts import write_json
from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG, track
from recsys.core.usage import Usage, measured
from recsys.data.options import ImportOptions

FULL = MadeUpSize(users=1_000_000, events=20_000_000, items=1_000_000)
OVERRIDES = (
    "model.cooccurrence=false",
    "tokenizer.epochs=10",
    "quality.max_mean_information=1.0",
)
UNTIL_TOKENS = ("data", "features", "tokenizer", "catalog")
TRAINING_STEPS = 200
TAKEN = "taken.json"
"""What finished steps took, in the folder of a size."""


def bench_scale(size: MadeUpSize = FULL, *, kept: Path | None = None) -> list[Line]:
    """Return processor seconds and peak memory of every step in full beside a tenth, and the growth of their sum.

    Args:
        size: of the full log.
        kept: where logs and runs are kept, for a bench that is killed to go on from; None keeps nothing.
    """
    folders = [None if kept is None else kept / f"{one.users}-{one.events}-{one.items}" for one in (size.tenth(), size)]
    tenth, full = (steps_of(one, folder) for one, folder in zip((size.tenth(), size), folders, strict=True))
    name = f"{size.tenth().users:,} users, {size.tenth().events:,} events, {size.tenth().items:,} items"
    lines = []
    for step, usage in full.items():
        small = tenth[step]
        lines.append(Line(what=step, ours=usage.cpu_seconds, peer=small.cpu_seconds, peer_name=name, unit="s"))
        lines.append(
            Line(
                what=f"{step}, peak memory",
                ours=float(usage.peak_memory_mb),
                peer=float(small.peak_memory_mb),
                peer_name=name,
                unit="MiB",
            )
        )
    whole, part = (sum(usage.cpu_seconds for usage in each.values()) for each in (full, tenth))
    lines.append(Line(what="all steps", ours=whole, peer=part, peer_name=name, unit="s"))
    lines.append(Line(what="growth of the processor time (10 is linear)", ours=whole / part, unit="times"))
    largest = max(float(usage.peak_memory_mb) for usage in full.values())
    return [*lines, Line(what="largest peak memory", ours=largest / 1024, unit="GiB")]


def steps_of(
    size: MadeUpSize,
    kept: Path | None = None,
    *,
    training: int = TRAINING_STEPS,
    measure: Callable[..., Usage] | None = None,
) -> dict[str, Usage]:
    """Write a log and return what each step on it takes; ``measure`` does a step's work, else a new process.

    Steps that a folder keeps as finished are not done again.
    """
    measure = measure or _apart
    with tempfile.TemporaryDirectory() if kept is None else nullcontext(kept) as folder:
        taken = Path(folder) / TAKEN
        found = {step: Usage(**each) for step, each in json.loads(taken.read_text()).items()} if taken.exists() else {}
        source, data, run = (Path(folder) / name for name in ("source", "data", "run"))
        if not found:
            write_large_log(size, source)
        steps: dict[str, tuple[Any, ...]] = {"import": (_import, source, data)}
        steps |= {f"stage {stage}": (_stage, stage, data, run) for stage in UNTIL_TOKENS}
        steps[f"{training} training steps"] = (_train, run, training)
        for step, (work, *arguments) in steps.items():
            if step in found:
                continue
            used = found[step] = _what_it_took(run, step, measure(work, *arguments))
            write_json(taken, {name: asdict(each) for name, each in found.items()})
            LOG.info(
                "scale, %s users: %s took %.1f s, %.1f processor seconds and %d MiB",
                *(size.users, step, used.seconds, used.cpu_seconds, used.peak_memory_mb),
            )
    return found


def _what_it_took(run: Path, step: str, measured_now: Usage) -> Usage:
    """Return what a step took: where a killed bench had finished its stage, which is not run again, what that took."""
    record = read_records(run).get(step.removeprefix("stage "))
    if record is None or record.cpu_seconds <= measured_now.cpu_seconds:
        return measured_now
    return Usage(seconds=record.seconds, cpu_seconds=record.cpu_seconds, peak_memory_mb=record.peak_memory_mb)


def _apart(work: Callable[..., None], *args: object) -> Usage:
    """Return what some work takes in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured_here, work, *args).result()


def measured_here(work: Callable[..., None], *args: object) -> Usage:
    """Return what some work takes in this process, on one thread."""
    torch.set_num_threads(1)
    with measured() as usage:
        work(*args)
    return usage


def _import(source: Path, data: Path) -> None:
    for line in run_import("parquet", source, data, ImportOptions()):
        LOG.info("%s", line)


def _stage(name: str, data: Path, run: Path) -> None:
    """Run one stage of the flow on a run whose stages before it are made."""
    recipe = load_recipe("default", OVERRIDES)
    claim_run(data, run)
    save_recipe(recipe, run / "recipe.toml")
    stage = next(stage for stage in STAGES if stage.name == name)
    run_stages([stage], Plan(source=data, run=run, recipe=recipe), use_ray=False)


def _train(run: Path, steps: int = TRAINING_STEPS) -> None:
    """Take training steps as the stage ``model`` does."""
    trainer = TrainingWorld.of_run(run).trainer()
    trainer.generator.train()
    rng = rng_for(0, "bench", "scale")
    batches = islice(trainer.objective.batches(0), steps)
    for place, batch in enumerate(track(batches, what="training steps", total=steps)):
        values = trainer.step(trainer.objective.losses(batch, rng), f"bench scale, batch {place}")
        if place % 50 == 0:
            LOG.info("step %d: %s", place, {name: round(value, 3) for name, value in values.items()})
