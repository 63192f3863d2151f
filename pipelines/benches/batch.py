"""Bench batch: users a second by catalogue size, in one process, in two and on Ray; peak memory by number of users.

Axes: E event.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipelines.batch.call import BatchCall, Shard
from pipelines.batch.job import recommend_batch
from pipelines.benches.decode import random_recommender
from pipelines.benches.measure import Line
from recsys.core.artifacts import write_json
from recsys.core.errors import CallError, WorkerError
from recsys.core.seeds import rng_for
from recsys.core.usage import tree_memory_mb
from recsys.data.prepare import EVENTS, USERS
from recsys.recommender.manifest import write_manifest

SPEED = {12_000: 32_768, 100_000: 4_096}
"""Users that are timed by size of a random catalogue."""
MEMORY = {10_000: 1, 100_000: 10, 1_000_000: 100}
"""Users of the run, and among how many shards they are dealt, so that each process answers 10,000 of them."""
EVENTS_A_USER = 8
MEMORY_ITEMS = 12_000
"""Size of the catalogue where memory is measured."""
LOOK_EVERY_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Took:
    """Seconds of a batch job from its start to its last mark, and the peak memory in MiB of all its processes."""

    seconds: float
    memory: float


def bench_batch(speed: Mapping[int, int] = SPEED) -> list[Line]:
    """Answer users of made-up runs (random weights of the default shape), ten items each, in three ways.

    One process answers all; two shards in two processes share them; Ray does, which leaves a core to what feeds its
    workers. Every process is new, so that starting and loading count.
    """
    lines = []
    for items, users in speed.items():
        with tempfile.TemporaryDirectory() as folder:
            run = _made_up_run(Path(folder) / "run", items=items, users=users)
            halves = tuple(Shard(index=index, count=2) for index in range(2))
            one = _took(run, "one", Shard())
            ways = {"two shards in two processes": _took(run, "two", *halves), "Ray": _took(run, "ray", use_ray=True)}
        peer = "one process"
        for way, took in ways.items():
            what = f"{items:,} items, {users:,} users, {way}"
            ours, theirs = users / took.seconds, users / one.seconds
            lines.append(Line(what=what, ours=ours, peer=theirs, peer_name=peer, unit="users/s"))
            memory = f"{what}, peak memory of all processes"
            lines.append(Line(what=memory, ours=took.memory, peer=one.memory, peer_name=peer, unit="MiB"))
    return lines


def bench_batch_memory() -> list[Line]:
    """Answer 10,000 users of runs of more and more users, each in a process of its own: its peak memory."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for users, shards in MEMORY.items():
            run = _made_up_run(Path(folder) / f"memory-{users}", items=MEMORY_ITEMS, users=users)
            took = _took(run, "one", Shard(index=0, count=shards))
            what = f"{MEMORY_ITEMS:,} items, {users:,} users, peak memory of shard 0/{shards}"
            lines.append(Line(what=what, ours=took.memory, unit="MiB"))
    return lines


def parse_size(text: str) -> dict[int, int]:
    """Read ``items,users``: the size of the catalogue, and the number of users.

    Raises:
        CallError: the text is not two whole numbers of at least ten.
    """
    parts = text.replace("_", "").split(",")
    if len(parts) == 2 and all(part.strip().isdigit() and int(part) >= 10 for part in parts):
        return {int(parts[0]): int(parts[1])}
    raise CallError(f"--size must be two whole numbers of at least ten, items,users, got {text!r}; e.g. 12000,32768")


def _took(run: Path, to: str, *shards: Shard, use_ray: bool = False) -> Took:
    """Return what a batch job takes whose shards run at once, each in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    jobs = [
        spawn.Process(target=_job, args=(run, run / to, shard), kwargs={"use_ray": use_ray})
        for shard in shards or (Shard(),)
    ]
    began, peak = time.perf_counter(), 0.0
    for job in jobs:
        job.start()
    while any(job.is_alive() for job in jobs):
        peak = max(peak, sum(tree_memory_mb(job.pid) for job in jobs if job.pid))
        wait([job.sentinel for job in jobs if job.is_alive()], timeout=LOOK_EVERY_SECONDS)
    seconds = time.perf_counter() - began
    if any(job.exitcode for job in jobs):
        raise WorkerError("a job of bench batch failed, its message is above; mend what it names and run it again")
    return Took(seconds=seconds, memory=peak)


def _job(run: Path, to: Path, shard: Shard, *, use_ray: bool) -> None:
    torch.set_num_threads(1)
    recommend_batch(BatchCall(run=run, users=None, to=to, shard=shard), use_ray=use_ray)


def _made_up_run(run: Path, *, items: int, users: int) -> Path:
    """Write what a batch job reads of a run: a log of random events, and a bundle with random weights."""
    rng, bundle = rng_for(0, "bench", "batch", items, users), run / "bundle"
    (run / "data").mkdir(parents=True)
    user_E = np.repeat(np.arange(users), EVENTS_A_USER)
    events = {
        "user": user_E,
        "item": rng.integers(0, items, len(user_E)),
        "timestamp": np.tile(np.arange(EVENTS_A_USER) * 86_400, users),
    }
    pq.write_table(pa.table(events), run / "data" / EVENTS)
    pq.write_table(pa.table({"user_id": np.arange(users)}), run / "data" / USERS)
    recommender = random_recommender(items)
    bundle.mkdir()
    recommender.scorer.generator.save(bundle / "model")
    recommender.catalogue.save(bundle / "catalog")
    write_json(bundle / "decoder.json", recommender.config.model_dump())
    write_manifest(bundle, kept={}, validation=[])
    return run
