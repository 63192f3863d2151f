"""Executes stages in the order of their parents: as Ray tasks, or in this process."""

import os
import platform
import resource
import shutil
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from pipelines.job import Job, Stage
from pipelines.recipe import Recipe
from recsys.core.artifacts import Manifest, atomic_folder, hash_file, hash_folder, hash_value
from recsys.core.telemetry import LOG, configure_logging
from recsys.data import schema

Entry = dict[str, Any]
WORK = ".work"
"""The part of a run folder that holds checkpoints and temporary folders."""


def run_stages(
    stages: Sequence[Stage], *, source: Path, run: Path, recipe: Recipe, use_ray: bool, reuse_from: Path | None = None
) -> None:
    """Run every stage that is not current and record each in the manifest as it ends.

    A stage that the run ``reuse_from`` has with equal inputs and settings is linked from there.
    """
    if use_ray and not _everything_current(stages, source=source, run=run, recipe=recipe):
        _run_on_ray(stages, source=source, run=run, recipe=recipe)
        return
    entries: dict[str, Entry] = {}
    for stage in stages:
        parents = [entries[parent] for parent in stage.parents]
        entries[stage.name] = execute(stage, source, run, recipe, *parents, reuse_from=reuse_from)
        Manifest(run).record(stage.name, entries[stage.name])


def _run_on_ray(stages: Sequence[Stage], *, source: Path, run: Path, recipe: Recipe) -> None:
    """Hand stages to Ray as tasks that wait for their parents; independent ones run side by side."""
    import ray

    started_here = start_ray()
    task = ray.remote(num_cpus=recipe.threads, max_retries=0)(execute)
    refs: dict[str, Any] = {}
    for stage in stages:
        refs[stage.name] = task.remote(stage, source, run, recipe, *(refs[parent] for parent in stage.parents))
    names = {ref: name for name, ref in refs.items()}
    waiting = list(refs.values())
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            Manifest(run).record(names[done[0]], ray.get(done[0]))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    finally:
        if started_here:
            ray.shutdown()


def start_ray() -> bool:
    """Start a local Ray with this machine's cores unless one is connected; tell whether it was started here."""
    import ray

    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(include_dashboard=False, logging_level="warning", num_cpus=os.cpu_count())
    return True


def stage_key(stage: Stage, source: Path, recipe: Recipe, parents: Sequence[Entry]) -> str:
    """Return the hash of all that a stage's result depends on: settings, parents' contents, and the data if read."""
    return hash_value(
        {
            "stage": stage.name,
            "settings": recipe.section((*stage.sections, "threads")),
            "parents": [parent["files"] for parent in parents],
            "source": _hash_source(source) if stage.reads_source else None,
            "version": version("recsys"),
        }
    )


def _hash_source(source: Path) -> dict[str, str]:
    """Return the hashes of the files that the data contract names: what else lies in the folder is not read."""
    names = (schema.INTERACTIONS, schema.ITEMS)
    return {name: hash_file(source / name) for name in names if (source / name).exists()}


def execute(
    stage: Stage, source: Path, run: Path, recipe: Recipe, *parents: Entry, reuse_from: Path | None = None
) -> Entry:
    """Run one stage unless it is current here, or in ``reuse_from``, from where it is linked; returns its entry."""
    configure_logging()
    key = stage_key(stage, source, recipe, parents)
    manifest = Manifest(run)
    folder = run / stage.name
    if manifest.is_current(stage.name, key, folder):
        LOG.info("%s: unchanged, not run again", stage.name)
        entry: Entry = manifest.read()[stage.name]
        return entry
    made = manifest.read().get(stage.name, {}).get("files", ())
    if reuse_from is not None and Manifest(reuse_from).is_current(stage.name, key, reuse_from / stage.name):
        LOG.info("%s: as in %s, linked from there", stage.name, reuse_from)
        with atomic_folder(folder, run / WORK, made=made) as out:
            shutil.copytree(reuse_from / stage.name, out, copy_function=os.link, dirs_exist_ok=True)
        lent: Entry = Manifest(reuse_from).read()[stage.name]
        return lent
    LOG.info("%s: running", stage.name)
    checkpoints = run / WORK / f"{stage.name}-{key[:16]}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    began, worked = time.perf_counter(), time.process_time()
    with threadpool_limits(recipe.threads), atomic_folder(folder, run / WORK, made=made) as out:
        import torch

        torch.set_num_threads(recipe.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        stage.work(Job(run=run, out=out, source=source, recipe=recipe, checkpoints=checkpoints))
    shutil.rmtree(checkpoints, ignore_errors=True)
    seconds = round(time.perf_counter() - began, 2)
    LOG.info("%s: done in %.1f s", stage.name, seconds)
    return {
        "key": key,
        "seconds": seconds,
        "cpu_seconds": round(time.process_time() - worked, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seed": recipe.seed,
        "parents": list(stage.parents),
        "files": hash_folder(folder),
        "versions": {
            "python": platform.python_version(),
            "recsys": version("recsys"),
            "torch": version("torch"),
        },
    }


def _everything_current(stages: Sequence[Stage], *, source: Path, run: Path, recipe: Recipe) -> bool:
    manifest = Manifest(run)
    entries = manifest.read()
    for stage in stages:
        if not all(name in entries for name in (stage.name, *stage.parents)):
            return False
        key = stage_key(stage, source, recipe, [entries[parent] for parent in stage.parents])
        if not manifest.is_current(stage.name, key, run / stage.name):
            return False
    return True
