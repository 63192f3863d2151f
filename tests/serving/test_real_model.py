"""The server in this process on a trained run: its own users, new items, steering by its facets."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recsys.data.prepare import load_prepared
from serving.app import create_app
from tests.support.small_shop import ids, service_of


@pytest.fixture(scope="module")
def trained(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("real") / "run"
    shutil.copytree(run, folder)
    with TestClient(create_app(folder)) as client:
        assert service_of(client).releases.wait(120)
        assert service_of(client).releases.current.reason == ""
        yield client


def test_recommend_when_users_are_of_the_training_log_then_none_gets_what_they_have(
    trained: TestClient, run: Path
) -> None:
    prepared = load_prepared(run / "data")
    item_ids = prepared.items["item_id"].to_pylist()
    slates = set()
    for user in range(0, prepared.log.num_users, 7):
        own = {item_ids[row] for row in prepared.log.history(user).items.tolist()}
        answer = trained.post("/v1/recommend", json={"user_id": str(prepared.user_ids[user]), "n": 10})
        assert answer.json()["degraded"] is None
        assert not own & set(ids(answer))
        slates.add(tuple(ids(answer)))
    # Users differ, and so do their slates.
    assert len(slates) > 10


def test_put_when_an_item_is_new_then_the_real_model_ranks_and_explains_it(trained: TestClient) -> None:
    known = trained.get("/v1/items", params={"limit": 1}).json()["items"][0]
    source = trained.get(f"/v1/items/{known['item_id']}").json()
    row = {"item_id": 777_777, "title": source["title"], "categories": source["categories"], **source["attributes"]}
    answer = trained.put("/v1/items", json=[row])
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, [])
    found = trained.get("/v1/items/777777").json()
    assert found["in_training"] is False
    assert set(found["facets"]) & set(source["facets"])
    body = {"history": [{"item_id": known["item_id"]}], "item_id": 777777}
    told = trained.post("/v1/explain", json=body).json()
    assert told["barred_by"] == []
    assert 1 <= told["rank"] <= told["of"]
    # an item that no searched path reached has no path: none is made up
    assert told["path"] is None or {step["facet"] for step in told["path"]["steps"]} <= set(found["facets"])
    # what paths reach is ranked here, so the best item has one, whatever the run ranks by default
    asked = {"history": [{"item_id": known["item_id"]}], "ranked": "paths"}
    first = trained.post("/v1/recommend", json={**asked, "n": 1, "explain": True}).json()["items"][0]
    again = trained.post("/v1/explain", json={**asked, "item_id": first["item_id"]}).json()
    assert again["rank"] == 1
    assert first["path"]["steps"]
    assert again["path"]["steps"] == first["path"]["steps"]
    everything = trained.post("/v1/recommend", json={"history": [], "n": 200})
    assert 777777 in ids(everything)
    assert everything.json()["degraded"] is None


def test_steer_when_a_facet_of_the_run_is_required_then_every_item_meets_it(trained: TestClient) -> None:
    facet = trained.get("/v1/facets", params={"limit": 1}).json()["facets"][0]
    body = {"history": [], "n": 5, "steer": {"require": [facet["words"]]}, "explain": True}
    answer = trained.post("/v1/recommend", json=body).json()
    assert len(answer["items"]) == 5
    assert all(facet["words"] in item["meets"] for item in answer["items"])
    assert answer["degraded"] is None
