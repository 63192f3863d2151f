"""Bench batch: users a second by catalogue size, and peak memory by the number of users, of one process.

Axes: E event.
"""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
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
from recsys.core.seeds import rng_for
from recsys.core.usage import measured
from recsys.data.prepare import EVENTS, USERS
from recsys.recommender.manifest import write_manifest

SPEED = {12_000: 8_192, 100_000: 2_048}
"""Users that are timed by size of a random catalogue."""
MEMORY = {10_000: 1, 100_000: 10, 1_000_000: 100}
"""Users of the run, and among how many shards they are dealt, so that each process answers 10,000 of them."""
EVENTS_A_USER = 8
MEMORY_ITEMS = 12_000
"""Size of the catalogue where memory is measured."""


def bench_batch() -> list[Line]:
    """Answer users of made-up runs (random weights of the default shape), ten items each, in a process of its own."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for items, users in SPEED.items():
            seconds, _ = _measured(_made_up_run(Path(folder) / f"{items}", items=items, users=users), Shard())
            what = f"{items:,} items, {users:,} users"
            lines.append(Line(what=what, ours=users / seconds, unit="users/s"))
        for users, shards in MEMORY.items():
            run = _made_up_run(Path(folder) / f"memory-{users}", items=MEMORY_ITEMS, users=users)
            _, memory = _measured(run, Shard(index=0, count=shards))
            what = f"{MEMORY_ITEMS:,} items, {users:,} users, peak memory of shard 0/{shards}"
            lines.append(Line(what=what, ours=memory, unit="MiB"))
    return lines


def _measured(run: Path, shard: Shard) -> tuple[float, float]:
    """Return the seconds and the peak memory of a batch job in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_job, run, shard).result()


def _job(run: Path, shard: Shard) -> tuple[float, float]:
    torch.set_num_threads(1)
    with measured() as usage:
        recommend_batch(BatchCall(run=run, users=None, to=run / "out", shard=shard), use_ray=False)
    return usage.seconds, float(usage.peak_memory_mb)


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
