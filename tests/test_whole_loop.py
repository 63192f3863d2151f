"""The loop closes: train, publish, serve with exploration, log, export, replay; the gate decides on the next one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pipelines.publish import publish_run
from pipelines.recipe import Recipe
from pipelines.releases import ReleaseFolder
from pipelines.remote import RemoteRecommender
from pipelines.replay import ReplayCall, replay_run
from recsys.contracts import requests_for
from recsys.core.errors import ArtifactError
from recsys.data.prepare import load_prepared
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.replay_results import Replay
from recsys.recommender.bundle import load_bundle
from recsys.recommender.manifest import read_manifest
from serving.app import create_app
from serving.export import Exported, export_store
from serving.settings import ServingConfig
from serving.sync import Sync
from tests.support.small_shop import service_of, settle
from tests.support.worse_run import worse_copy

REQUESTS, PLACES = 400, 2
CLICKED_IF_ODD = 0.6


def serve_and_log(run: Path, url: str) -> tuple[int, int, str]:
    """Serve with every place explored; people click items of odd rows more often. Returns shown, clicked, version."""
    prepared = load_prepared(run / "data")
    odd = {str(item) for item in prepared.items["item_id"].to_pylist()[1::2]}
    rng, clicks, shown = np.random.default_rng(0), 0, 0
    config = ServingConfig(explore_share=1.0, explore_temperature=5.0, explore_pool=10)
    with TestClient(create_app(run, store=url, config=config)) as client:
        assert service_of(client).releases.wait(60)
        begin = int(prepared.log.timestamps_E.max())
        for number in range(REQUESTS):
            user = str(prepared.user_ids[number % len(prepared.user_ids)])
            answer = client.post("/v1/recommend", json={"user_id": user, "n": PLACES}).json()
            assert answer["degraded"] is None
            shown += len(answer["items"])
            for item in answer["items"]:
                if rng.random() < (CLICKED_IF_ODD if str(item["item_id"]) in odd else 0.1):
                    clicks += 1
                    event = {
                        "event_id": f"{number}-{item['item_id']}",
                        "user_id": user,
                        "item_id": item["item_id"],
                        "event_type": "click",
                        "timestamp": begin + 60 * (number + 1),
                        "request_id": answer["request_id"],
                    }
                    client.post("/v1/events", json=[event]).raise_for_status()
        settle(client)
        version = str(client.get("/v1/models").json()["models"][0]["version"])
    return shown, clicks, version


def check_replay(result: Replay, *, clicks: int) -> None:
    """Check what the replay of the exported log says against what was logged."""
    assert result.counts["asked"] > clicks * 0.9  # held-out events of the run, and every click that was new
    on_policy = next(row for row in result.off_policy if row.estimator == "on policy")
    assert on_policy.logging == "plackett-luce share=1 temperature=5"
    assert on_policy.estimate.value == pytest.approx(clicks / REQUESTS)
    targets = {row.target for row in result.off_policy}
    assert {"recsys", "popularity", "uniform over the catalogue"} <= targets
    # the service showed ten items of a hundred and twenty to each user: it cannot say what a uniform policy would earn
    uniform = [row for row in result.off_policy if row.target.startswith("uniform") and row.estimator == "first: ips"]
    assert [row.refusal[:28] for row in uniform] == ["this log cannot decide this:"]


def check_remote(client: TestClient, run: Path) -> None:
    """Check that the service recommends over HTTP what its release recommends in this process."""
    prepared, bundle = load_prepared(run / "data"), load_bundle(run / "bundle")
    items = Vocabulary([str(one) for one in bundle.catalogue.item_ids])
    remote = RemoteRecommender(
        "http://testserver", items, post=lambda _, body: client.post("/v1/recommend", json=body).json()
    )
    asked = requests_for([prepared.log.history(user) for user in range(8)], n=5)
    here = [slate.items.tolist() for slate in bundle.ranker.recommend(asked)]
    assert [slate.items.tolist() for slate in remote.recommend(asked)] == here
    assert (len(remote.latencies_ms), remote.degraded) == (8, 0)


@pytest.mark.slow
def test_loop_when_closed_then_the_log_replays_and_the_gate_refuses_the_worse_and_publishes_the_better(
    run: Path, recipe: Recipe, tmp_path: Path
) -> None:
    good, served = tmp_path / "good", tmp_path / "served"
    shutil.copytree(run, good)
    worse = worse_copy(run, served)
    # the worse run is the one that is served: its bundle becomes the first release
    first = publish_run(worse, recipe).move.version
    url = f"sqlite:///{tmp_path / 'store.db'}"
    shown, clicks, version = serve_and_log(served, url)
    assert version == first
    exported = export_store(url, tmp_path / "day", run=served)
    assert isinstance(exported, Exported)
    assert exported.exposures == shown == REQUESTS * PLACES
    check_replay(replay_run(good, recipe, ReplayCall(log=tmp_path / "day")), clicks=clicks)
    with TestClient(create_app(served, store=url)) as client:
        assert service_of(client).releases.wait(60)
        sync = Sync(service_of(client))
        sync.once()
        better = publish_run(good, recipe, into=served)
        assert better.verdict is not None
        sync.once()
        assert client.get("/v1/models").json()["models"][0]["version"] == better.move.version
        check_remote(client, good)
    with pytest.raises(ArtifactError, match=r"must pass the gate .* on 'all' \(\d+ events\) went from"):
        publish_run(worse_copy(run, tmp_path / "again"), recipe, into=served)
    now = ReleaseFolder(served).current()
    assert now is not None
    assert now.version == better.move.version == read_manifest(good / "bundle").model_version
