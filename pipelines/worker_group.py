"""A stage whose networks several workers train together: each runs the stage's work, one of them writes.

The workers are processes of Ray Train on one machine or many; they hold the same weights and share every batch
(recsys/core/workers.py). The first one writes into the stage's folder and reports progress, the others write into a
folder that is thrown away.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.execute import WORK, WorkersUsage, stage_settings
from pipelines.job import Job
from pipelines.ray_session import WorkerGroup, ray_session
from pipelines.relay import relayed
from pipelines.store import RunStore
from recsys.core.device import pick_device
from recsys.core.telemetry import listening, logging_to
from recsys.core.usage import measured
from recsys.core.workers import Workers


@dataclass(frozen=True, kw_only=True)
class WorkerCall:
    """The arguments of every worker."""

    job: Job
    events: Path
    """Where the first worker's progress goes."""


def run_by_workers(job: Job, events: Path) -> WorkersUsage:
    """Run a job's work in the recipe's number of workers, on Ray; a lost worker starts all again from the checkpoint.

    Raises:
        RecsysError: what the work raised on purpose.
        WorkerError: workers could not be had, were lost too often, or something else went wrong in one.
    """
    recipe = job.resolved
    least, most = recipe.worker_range
    group = WorkerGroup(
        name=f"stage {job.stage.name}",
        least=least,
        most=most,
        threads=recipe.threads,
        gpu=recipe.device != "cpu",
        folder=job.checkpoints / "ray",
    )
    with ray_session() as session, session.errors(group.name):  # what Ray Train itself may die of
        found: WorkersUsage = session.train(group, run_worker, WorkerCall(job=job, events=events))
    if job.store is not None:
        job.store.fetch_folder(_made(job, job.store))
        shutil.copytree(_made(job, job.store), job.out, dirs_exist_ok=True)
        job.store.remove_folder(_made(job, job.store))
    return found


def run_worker(call: WorkerCall) -> WorkersUsage:
    """Do the job's work as one worker; returns what all of them took."""
    workers, job = Workers.here(), call.job
    with (
        tempfile.TemporaryDirectory() as aside,
        _progress_relayed(call, workers),
        stage_settings(job.resolved.threads),
        _on_this_machine(job) as job,
    ):
        if workers.first:
            _empty(job.out)
        else:
            job = replace(job, out=Path(aside), timings={})
        with measured() as usage:
            job.stage.work(job)
        if workers.first and job.store is not None:
            job.store.push_folder(job.out)
        taken = {"cpu_seconds": usage.cpu_seconds, "peak_memory_mb": float(usage.peak_memory_mb)}
        summed: Mapping[str, float] = workers.added(taken, 1.0, pick_device(job.resolved.device))
    return WorkersUsage(
        workers=workers.count,
        cpu_seconds=round(summed["cpu_seconds"], 2),
        peak_memory_mb=round(summed["peak_memory_mb"]),
        timings=job.timings,
    )


@contextmanager
def _on_this_machine(job: Job) -> Iterator[Job]:
    """Yield the job with this machine's folders, which hold what it reads; on a common disk it is as it was."""
    if job.store is None:
        yield job
        return
    run = job.store.begin(job.stage.parents)
    checkpoints = run / job.checkpoints.relative_to(job.run)
    with job.store.checkpoints(checkpoints):
        yield replace(job, run=run, out=_made(job, job.store), checkpoints=checkpoints)


def _made(job: Job, store: RunStore) -> Path:
    """Return where the first worker puts what the stage makes, for the stage to fetch."""
    return store.working / WORK / f"made-{job.stage.name}"


@contextmanager
def _progress_relayed(call: WorkerCall, workers: Workers) -> Iterator[None]:
    """Relay progress and log lines of the first worker; the others, who would say the same, are silent."""
    if not workers.first:
        with logging_to(logging.NullHandler()), listening(lambda _: None):
            yield
        return
    name = call.job.stage.name
    with relayed(call.events) as display, listening(lambda progress: display.progress(name, progress)):
        yield


def _empty(folder: Path) -> None:
    """Remove what workers that were lost have written."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
