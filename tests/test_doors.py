"""One user, one slate: asked by a users file, by a history on the command line, and by the API."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from pipelines.batch.call import BatchCall
from pipelines.batch.job import recommend_batch
from pipelines.recommend import recommend_one
from recsys.data.prepare import Prepared, load_prepared
from serving.app import create_app
from tests.support.small_shop import service_of

N = 10
ASKED = range(0, 60, 6)
"""Rows of the users that are asked."""


@pytest.fixture(scope="module")
def served(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, TestClient]]:
    """Return a copy of the run, for its store is written beside it, and a client of its API."""
    copy = tmp_path_factory.mktemp("served") / "run"
    shutil.copytree(run, copy)
    with TestClient(create_app(copy)) as client:
        assert service_of(client).releases.wait(120)
        yield copy, client


def given_history(prepared: Prepared, row: int) -> list[tuple[str, int]]:
    """Return a user's events as external ids and times."""
    ids, history = prepared.items["item_id"].to_pylist(), prepared.log.history(row)
    return [(str(ids[item]), at) for item, at in zip(history.items.tolist(), history.timestamps.tolist(), strict=True)]


def by_api(client: TestClient, **asker: Any) -> list[str]:
    answer = client.post("/v1/recommend", json={"n": N, **asker}).raise_for_status().json()
    assert answer["degraded"] is None
    return [str(item["item_id"]) for item in answer["items"]]


def by_command(run: Path, text: str) -> list[str]:
    return [str(item["item_id"]) for item in recommend_one(run, text, n=N).to_json(explain=False)["items"]]


def test_doors_when_a_user_of_the_log_is_asked_through_each_then_all_give_the_same_slate(
    served: tuple[Path, TestClient], tmp_path: Path
) -> None:
    run, client = served
    prepared = load_prepared(run / "data")
    users = [str(prepared.user_ids[row]) for row in ASKED]
    (tmp_path / "users.csv").write_text("\n".join(["user_id", *users]))
    recommend_batch(BatchCall(run=run, users=tmp_path / "users.csv", to=tmp_path / "out", n=N), use_ray=False)
    by_file: dict[str, list[str]] = {user: [] for user in users}
    for answer in pq.read_table(tmp_path / "out").sort_by("rank").to_pylist():
        by_file[answer["user_id"]].append(str(answer["item_id"]))
    for row, user in zip(ASKED, users, strict=True):
        events = given_history(prepared, row)
        body = [{"item_id": item, "timestamp": at} for item, at in events]
        assert by_command(run, ",".join(f"{item}@{at}" for item, at in events)) == by_file[user]
        assert by_api(client, history=body) == by_file[user]
        assert by_api(client, user_id=user) == by_file[user]


def test_doors_when_times_are_missing_then_all_take_the_serving_moment(served: tuple[Path, TestClient]) -> None:
    run, client = served
    prepared = load_prepared(run / "data")
    for row in ASKED[:3]:
        events = given_history(prepared, row)
        half = len(events) // 2
        text = [item if place < half else f"{item}@{at}" for place, (item, at) in enumerate(events)]
        body: list[dict[str, Any]] = [{"item_id": item} for item, _ in events[:half]]
        body += [{"item_id": item, "timestamp": at} for item, at in events[half:]]
        assert by_command(run, ",".join(text)) == by_api(client, history=body)


def test_doors_when_an_id_is_unknown_then_all_name_it_and_answer_for_the_rest(
    served: tuple[Path, TestClient],
) -> None:
    run, client = served
    (item, at), *_ = given_history(load_prepared(run / "data"), 0)
    answer = recommend_one(run, f"9007199254740993@{at},{item}@{at}", n=N).to_json(explain=False)
    body = {"history": [{"item_id": "9007199254740993", "timestamp": at}, {"item_id": item, "timestamp": at}], "n": N}
    served_answer = client.post("/v1/recommend", json=body).json()
    assert answer["unknown_items"] == served_answer["unknown_items"] == ["9007199254740993"]
    assert [str(one["item_id"]) for one in answer["items"]] == [str(one["item_id"]) for one in served_answer["items"]]
