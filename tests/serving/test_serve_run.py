"""`recsys serve` as a process on a trained run: events, reasoned recommendations, bad bodies, a missing model."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from tests.support.server import READY_SECONDS, running, served


def answer_of_the_model(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until the model has loaded: before that the fallback answers, as it should."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        answer: dict[str, Any] = client.post("/v1/recommend", json=body).raise_for_status().json()
        if answer["degraded"] != "model_loading" or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


@pytest.mark.slow
def test_serve_when_a_new_user_sends_events_then_gets_ten_unseen_titles_with_paths(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    items = pq.read_table(run / "bundle" / "items.parquet")
    ids, titles = items["item_id"].to_pylist(), set(items["title"].to_pylist())
    with served(tmp_path / "run") as client:
        events = [
            {"event_id": f"e{k}", "user_id": "new", "item_id": ids[k], "event_type": "view", "timestamp": 1000 + k}
            for k in range(3)
        ]
        first = client.post("/v1/events", json=events)
        assert first.status_code == 202
        assert (first.json()["accepted"], first.json()["rejected"]) == (3, [])
        assert client.post("/v1/events", json=events).json()["duplicates"] == 3
        answer = answer_of_the_model(client, {"user_id": "new", "n": 10, "explain": True, "ranked": "paths"})
        assert answer["degraded"] is None
        found = [item["item_id"] for item in answer["items"]]
        assert len(set(found)) == 10
        assert not set(found) & set(ids[:3])
        assert set(found) <= set(ids)
        assert {item["title"] for item in answer["items"]} <= titles
        assert any(item.get("path") and item["path"]["steps"] for item in answer["items"])
        plain = answer_of_the_model(client, {"user_id": "new", "n": 10, "ranked": "paths"})
        assert [item["item_id"] for item in plain["items"]] == found
        assert not any(item.get("path") for item in plain["items"])
        for body in (b"{", b"[]", b'{"n": "many"}', b'{"history": 5}', b"\x00", json.dumps({"n": 10**9}).encode()):
            bad = client.post("/v1/recommend", content=body, headers={"content-type": "application/json"})
            assert 400 <= bad.status_code < 500
            assert bad.headers["content-type"].startswith("application/problem+json")
        assert client.get("/").status_code == 200
        metrics = client.get("/metrics").text
        assert "recsys_model_ready 1.0" in metrics
        assert "recsys_illegal_items_total 0.0" in metrics
        assert 'recsys_requests_total{route="/v1/events",status="202"} 2.0' in metrics  # sent twice above


@pytest.mark.slow
def test_put_when_an_item_is_new_then_every_worker_recommends_it_soon(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with running(tmp_path / "run", more=["--workers", "2"]) as (client, _process):
        answer_of_the_model(client, {"history": []})
        put = client.put("/v1/items", json=[{"item_id": "777777", "title": "A thing nobody knows"}]).json()
        assert (put["accepted"], put["new"]) == (1, 1)
        # while what encodes it is loaded, on a busy machine, it is pending
        assert [one["item_id"] for one in put["encoded"]] == [777777] * (1 - put["pending"])
        only = {"where": [{"field": "title", "value": "A thing nobody knows"}]}
        deadline, agreed = time.monotonic() + READY_SECONDS, 0
        while agreed < 20:  # fresh connections reach both workers; 20 in a row agree
            body = {"history": [], "filter": only, "ranked": "catalogue"}
            answer = httpx.post(f"{client.base_url}/v1/recommend", json=body, timeout=60).json()
            found = [item["item_id"] for item in answer["items"]]
            agreed = agreed + 1 if found == [777777] and answer["degraded"] is None else 0
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_serve_when_the_model_file_is_gone_then_answers_popularity_and_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "bundle" / "model" / "model.safetensors").unlink()
    with served(tmp_path / "run") as client:
        answer = answer_of_the_model(client, {"history": [], "n": 10})
        assert answer["degraded"] == "model_failed"
        counts = json.loads((run / "bundle" / "popularity.json").read_text())["counts"]
        ids = pq.read_table(run / "bundle" / "items.parquet")["item_id"].to_pylist()
        got = [counts[ids.index(item["item_id"])] for item in answer["items"]]
        assert got == sorted(counts, reverse=True)[:10]
