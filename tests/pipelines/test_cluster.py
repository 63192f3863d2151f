"""Several machines, on one: RAY_ADDRESS is used, workers train across them, and the loss of one is survived."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from torch import distributed

from pipelines.ray_session import RaySession, WorkerGroup, ray_session
from recsys.core.workers import Workers
from tests.support.faults import two_machines
from tests.support.toy_training import fit_line

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray Data, which Ray Train imports
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = two_machines()
    yield started
    started.shutdown()


@pytest.fixture
def session(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[RaySession]:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    # Ray Train goes on counting on a lost machine for some seconds, and waits so long for it
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
    with ray_session() as opened:
        yield opened


def train_across(folder: Path) -> dict[str, object]:
    """Fit a line by one batch an epoch; with two the first waits in the fourth epoch until a machine is gone."""
    here = Workers.here()
    nodes: list[str | None] = [None] * here.count
    distributed.all_gather_object(nodes, ray.get_runtime_context().get_node_id())
    if here.first:
        (folder / f"nodes-{here.count}").write_text(" ".join(map(str, nodes)))

    def at_batch(drawn: int) -> None:
        if here.count == 2 and drawn == 4:
            (folder / f"reached-{here.rank}").touch()
            while not here.first or not (folder / "gone").exists():  # the other one ends with its machine
                time.sleep(0.05)

    scores: list[float] = []

    def validate() -> float:
        scores.append(len(scores))
        return scores[-1]

    fit_line(folder, batch_positions=8, at_batch=at_batch, validate=validate)
    return {"workers": here.count, "epochs here": len(scores)}


@pytest.mark.timeout(1200)
def test_training_across_machines_when_one_is_lost_then_goes_on_with_fewer_workers(
    cluster: Cluster, session: RaySession, tmp_path: Path
) -> None:
    assert os.environ["RAY_ADDRESS"] == cluster.address
    assert session.cores == 2  # the cluster's: a Ray of this process's own would have the machine's on one node
    second = sorted(cluster.worker_nodes, key=lambda node: str(node.node_id))

    def lose_a_machine() -> None:
        while not (tmp_path / "reached-1").exists():
            time.sleep(0.05)
        other = (tmp_path / "nodes-2").read_text().split()[1]
        lost = next(node for node in second if node.node_id == other)
        cluster.remove_node(lost, allow_graceful=False)
        (tmp_path / "gone").touch()

    waiting = threading.Thread(target=lose_a_machine, daemon=True)
    waiting.start()
    group = WorkerGroup(name="stage toy", least=1, most=2, threads=1, gpu=False, folder=tmp_path / "ray")
    found = session.train(group, train_across, tmp_path)
    waiting.join()
    assert len(set((tmp_path / "nodes-2").read_text().split())) == 2
    # one batch an epoch: stopped in the fourth, so three epochs were done and three are left
    assert found == {"workers": 1, "epochs here": 3}
