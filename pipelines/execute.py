"""One stage: what its result depends on, whether it is current, and its execution in this process."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from threadpoolctl import threadpool_limits

from pipelines.declared import settings
from pipelines.display import Display, showing
from pipelines.job import REPORTS, Job, Stage
from pipelines.recipe import Recipe
from pipelines.record import StageRecord, read_records
from pipelines.store import RunStore
from recsys.core.artifacts import Manifest, atomic_folder, hash_file, hash_folder, hash_value, place_files
from recsys.core.device import pick_device, product_dtype
from recsys.core.errors import DataError
from recsys.core.telemetry import listening
from recsys.core.usage import measured
from recsys.data import schema

WORK = ".work"
"""The part of a run folder that holds checkpoints and temporary folders."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of the flow: from which data, into which folder, by which recipe."""

    source: Path
    run: Path
    recipe: Recipe
    reuse_from: Path | None = None
    """A run whose stages are linked where they have equal inputs and settings."""
    store: RunStore | None = None
    """Where the run is kept when ``run`` is this machine's working copy of it."""


@dataclass(frozen=True, kw_only=True)
class WorkersUsage:
    """What a stage's work took in other processes, all workers together."""

    workers: int = 1
    cpu_seconds: float = 0.0
    peak_memory_mb: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)


RunWork = Callable[[Job], WorkersUsage]
"""Does a job's work, in this process or in several workers."""


def run_here(job: Job) -> WorkersUsage:
    """Do a job's work in this process."""
    job.stage.work(job)
    return WorkersUsage(timings=job.timings)


def stage_key(stage: Stage, plan: Plan, parents: Sequence[StageRecord]) -> str:
    """Return the hash of all that a stage's result depends on: settings, parents' contents, and the data if read."""
    return hash_value(
        {
            "stage": stage.name,
            "settings": settings(plan.recipe, stage.sections),
            "parents": [parent.files for parent in parents],
            "source": _hash_source(plan.source) if stage.reads_source else None,
            "version": release_series(version("recsys")),
        }
    )


def release_series(release: str) -> str:
    """Return the first release with the same first two numbers: releases of one series make equal artifacts.

    >>> release_series("0.2.3")
    '0.2.0'
    """
    major, minor, *_ = release.split(".")
    return f"{major}.{minor}.0"


def _hash_source(source: Path) -> dict[str, str]:
    """Return the hashes of the files that the data contract names: what else lies in the folder is not read."""
    names = (schema.INTERACTIONS, schema.ITEMS)
    return {name: hash_file(source / name) for name in names if (source / name).exists()}


def is_current(stage: Stage, run: Path, key: str) -> bool:
    """Tell whether a run has a stage's result under this key, as the stage left it."""
    return Manifest(run).is_current(stage.name, key, stage.folder(run), stage.files)


def execute(
    stage: Stage, plan: Plan, records: Mapping[str, StageRecord], *, run_work: RunWork = run_here
) -> StageRecord:
    """Run one stage unless it is current here, or in ``reuse_from``, from where it is linked; returns its record."""
    with showing() as display:
        display.begin(stage.name)
        try:
            record, outcome = _execute(stage, plan, records, display, run_work)
        except BaseException:
            display.end(stage.name, "not finished")
            raise
        display.end(stage.name, outcome)
    return record


def _execute(
    stage: Stage, plan: Plan, records: Mapping[str, StageRecord], display: Display, run_work: RunWork
) -> tuple[StageRecord, str]:
    """Return a stage's record and, in words, where it comes from."""
    key = stage_key(stage, plan, [records[parent] for parent in stage.parents])
    if is_current(stage, plan.run, key):
        return read_records(plan.run)[stage.name], "unchanged, not run again"
    if plan.reuse_from is not None and not stage.files and is_current(stage, plan.reuse_from, key):
        with _output(stage, plan.run) as out:
            shutil.copytree(plan.reuse_from / stage.name, out, copy_function=os.link, dirs_exist_ok=True)
        return read_records(plan.reuse_from)[stage.name], f"as in {plan.reuse_from}, linked from there"
    record = _run(stage, plan, records, key=key, display=display, run_work=run_work)
    return record, f"done in {record.seconds:.1f} s"


def _run(
    stage: Stage, plan: Plan, records: Mapping[str, StageRecord], *, key: str, display: Display, run_work: RunWork
) -> StageRecord:
    run, recipe = plan.run, plan.recipe
    checkpoints = run / WORK / f"{stage.name}-{key[:16]}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    with (
        measured() as usage,
        stage_settings(recipe.threads),
        listening(lambda progress: display.progress(stage.name, progress)),
        _output(stage, run) as out,
        nullcontext() if plan.store is None else plan.store.checkpoints(checkpoints),
    ):
        job = Job(
            stage=stage,
            run=run,
            out=out,
            data_set=plan.source,
            resolved=recipe,
            checkpoints=checkpoints,
            records=records,
            store=plan.store,
        )
        usage_of_workers = run_work(job)
        if stage.reads_source and stage_key(stage, plan, [records[parent] for parent in stage.parents]) != key:
            raise DataError(f"{plan.source} must stay as it is while it is read, but it changed; run the command again")
    shutil.rmtree(checkpoints, ignore_errors=True)
    if plan.store is not None:
        plan.store.remove_folder(checkpoints)
    folder = stage.folder(run)
    return StageRecord(
        key=key,
        folder=REPORTS if stage.files else "",
        seconds=usage.seconds,
        workers=usage_of_workers.workers,
        cpu_seconds=round(usage.cpu_seconds + usage_of_workers.cpu_seconds, 2),
        peak_memory_mb=max(usage.peak_memory_mb, usage_of_workers.peak_memory_mb),
        seed=recipe.seed,
        arithmetic=_arithmetic(stage, recipe),
        parents=stage.parents,
        files={name: hash_file(folder / name) for name in stage.files} if stage.files else hash_folder(folder),
        timings={name: round(seconds, 3) for name, seconds in usage_of_workers.timings.items()},
        versions={"python": platform.python_version(), "recsys": version("recsys"), "torch": version("torch")},
    )


@contextmanager
def _output(stage: Stage, run: Path) -> Iterator[Path]:
    """Yield an empty folder whose content takes its place in the run if the block succeeds."""
    if stage.files:
        with place_files(stage.folder(run), run / WORK, stage.files) as out:
            yield out
        return
    made = Manifest(run).read().get(stage.name, {}).get("files", ())
    with atomic_folder(run / stage.name, run / WORK, made=made) as out:
        yield out


@contextmanager
def stage_settings(threads: int) -> Iterator[None]:
    """Hold every library to so many threads and torch to repeatable algorithms, then put back what was set before."""
    import torch

    before = torch.get_num_threads()
    repeatable = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(repeatable, warn_only=warn_only)
            torch.set_num_threads(before)


def _arithmetic(stage: Stage, recipe: Recipe) -> str:
    """Return the type of a stage's products where the recipe's precision decides it, else float32."""
    if "precision" not in stage.sections:
        return "float32"
    return str(product_dtype(recipe.precision, pick_device(recipe.device))).removeprefix("torch.")
