"""Random kills over training and batch: all end, with the result of a run that nothing disturbed.

``RECSYS_KILLS=20 pytest tests/pipelines/test_faults.py -m long -s`` prints what was killed and what it cost.
"""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.batch.call import BatchCall
from pipelines.batch.job import recommend_batch
from pipelines.flow import STAGES, train
from pipelines.recipe import load_recipe
from pipelines.record import read_records
from recsys.evaluation.results import Evaluation
from tests.support.faults import Killer, two_machines

KILLS = int(os.environ.get("RECSYS_KILLS", "20"))
LONGEST_SECONDS = float(os.environ.get("RECSYS_KILL_WITHIN", "20"))
HOUR = 3600.0
TRAIN = """
import sys
from pathlib import Path
from pipelines.flow import train
from pipelines.recipe import load_recipe
from recsys.core.errors import RecsysError
from recsys.core.telemetry import configure_logging
configure_logging()
world, run, workers = sys.argv[1:]
try:
    train(Path(world), Path(run), load_recipe("smoke", ("fit.epochs=6", f"workers={workers}")))
except RecsysError as error:
    sys.exit(f"refused: {error}")
"""
BATCH = """
import sys
from pathlib import Path
from pipelines.batch import plan
from pipelines.batch.call import BatchCall
from pipelines.batch.job import recommend_batch
from recsys.core.errors import RecsysError
plan.PART_USERS = 4
try:
    recommend_batch(BatchCall(run=Path(sys.argv[1]), users=None, to=Path(sys.argv[2]), n=5))
except RecsysError as error:
    sys.exit(f"refused: {error}")
"""
pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(3 * 3600)]


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    cluster = two_machines()
    yield Killer(cluster=cluster, rng=np.random.default_rng(20), longest_seconds=LONGEST_SECONDS)
    cluster.shutdown()


def ndcg(run: Path) -> float:
    result = Evaluation.from_json(json.loads((run / "reports" / "evaluation.json").read_text()))
    return result.row("recsys").accuracy["ndcg@10"].value


def most_repeats(log: Path) -> int:
    """Return how many epochs of pre-training were finished more than once."""
    done = Counter(re.findall(r"\bepoch (\d+) item ", log.read_text()))
    return sum(count - 1 for count in done.values())


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one worker that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(world, folder, load_recipe("smoke", ("fit.epochs=6",)), use_ray=False)
    return folder


@pytest.mark.parametrize(("workers", "share"), [("1", 0.4), ("[1,2]", 0.4)])
def test_training_when_killed_at_random_then_ends_with_the_metrics_of_an_undisturbed_run(
    killer: Killer, world: Path, whole: Path, tmp_path: Path, workers: str, share: float
) -> None:
    kills, began = round(share * KILLS), time.monotonic()
    before = Counter(killer.kills)
    starts = killer.torment(
        TRAIN, world, tmp_path / "run", workers, log=tmp_path / "log.txt", kills=kills, seconds=HOUR
    )
    killed = killer.kills - before
    repeated = most_repeats(tmp_path / "log.txt")
    print(  # noqa: T201 (the figures of this test)
        f"\ntraining, workers={workers}: {dict(killed)}, started {starts} times, {time.monotonic() - began:.0f} s, "
        f"epochs done again {repeated}, ndcg@10 {ndcg(tmp_path / 'run'):.4f}, undisturbed {ndcg(whole):.4f}"
    )
    assert repeated <= killed.total()  # at most one checkpoint interval, an epoch, for each
    if workers == "1":
        made, wanted = read_records(tmp_path / "run"), read_records(whole)
        assert {stage.name: made[stage.name].files for stage in STAGES} == {
            stage.name: wanted[stage.name].files for stage in STAGES
        }
    assert ndcg(tmp_path / "run") == pytest.approx(ndcg(whole), abs=0.0 if workers == "1" else 0.03)


def test_batch_when_killed_at_random_then_is_complete_without_duplicates(
    killer: Killer, whole: Path, tmp_path: Path
) -> None:
    recommend_batch(BatchCall(run=whole, users=None, to=tmp_path / "wanted", n=5), use_ray=False)
    kills, starts, began, before = KILLS - 2 * round(0.4 * KILLS), 0, time.monotonic(), Counter(killer.kills)
    done = 0
    while done < kills:  # a batch of the sample is short: one or two kills in each
        out, before_this = tmp_path / f"out-{done}", killer.kills.total()
        starts += killer.torment(BATCH, whole, out, log=tmp_path / "log.txt", kills=kills - done, seconds=HOUR)
        assert (out / "_SUCCESS").exists()
        got, wanted = (sorted_rows(folder) for folder in (out, tmp_path / "wanted"))
        assert got == wanted
        done += max(1, killer.kills.total() - before_this)
    print(f"\nbatch: {dict(killer.kills - before)}, started {starts} times, {time.monotonic() - began:.0f} s")  # noqa: T201


def sorted_rows(folder: Path) -> list[tuple[object, ...]]:
    return sorted((row["user_id"], row["rank"], row["item_id"]) for row in pq.read_table(folder).to_pylist())
