"""Items at run time: added, changed, taken off sale; durable, in their dates, and recommended at once."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.settings import ServingConfig
from tests.support.small_shop import Fake, bundle_of, event, ids, is_problem, opened, service_of


def growing(fake: Fake, folder: Path) -> Any:
    """Return a bundle that gives new items the codes of "love" and "day"."""
    bundle = bundle_of(fake, folder)

    def with_items(items: pa.Table) -> Any:
        new = items["item_id"].to_pylist()
        catalogue = SimpleNamespace(
            facets=bundle.catalogue.facets,
            item_ids=[*bundle.catalogue.item_ids, *new],
            codes_NM=np.concatenate([bundle.catalogue.codes_NM, np.tile([8, 3], (len(new), 1))]),
        )
        changed = vars(bundle) | {"catalogue": catalogue}
        return SimpleNamespace(**changed)

    bundle.with_items = with_items
    return bundle


@pytest.fixture
def growing_client(shop: Path, fake: Fake) -> Iterator[TestClient]:
    with TestClient(create_app(shop, loader=lambda folder: growing(fake, folder))) as client:
        assert service_of(client).releases.wait(10)
        yield client


def put(client: TestClient, *rows: dict[str, Any]) -> Any:
    answer = client.put("/v1/items", json=list(rows))
    assert answer.status_code == 200, answer.text
    return answer.json()


def everything(client: TestClient, **body: Any) -> list[Any]:
    return ids(client.post("/v1/recommend", json={"history": [], "n": 50} | body))


def test_put_when_an_item_is_new_then_is_recommended_found_filtered_and_explained(growing_client: TestClient) -> None:
    new = {"item_id": "77", "title": "A New Film", "categories": ["Film", "Horror"], "price": 9.5, "colour": "red"}
    answer = put(growing_client, new)
    (encoded,) = answer.pop("encoded")
    assert answer == {"accepted": 1, "version": 1, "new": 1, "rejected": [], "pending": 0}
    # 13 has both codes; 11 (5 events), 15 (4) and 12 (2) have one of them.
    assert [near["item_id"] for near in encoded.pop("nearest")] == ["13", "11", "15", "12"]
    assert encoded == {"item_id": "77", "codes": [8, 3], "facets": ["love", "day"]}
    assert everything(growing_client)[-1] == "77"
    assert everything(growing_client, filter={"category": "horror"}) == ["77"]
    assert everything(growing_client, filter={"where": [{"field": "colour", "value": "Red"}]}) == ["77"]
    assert everything(growing_client, steer={"require": ["love", "day"]}) == ["13", "77"]
    assert ids(growing_client.get("/v1/items", params={"query": "new film"})) == ["77"]
    shown = growing_client.get("/v1/items/77").json()
    assert (shown["in_training"], shown["facets"], shown["available"]) == (False, ["love", "day"], True)
    assert shown["attributes"] == {"price": 9.5, "colour": "red"}
    assert (shown["codes"], shown["nearest"][0]["title"]) == ([8, 3], "Title 13")
    assert growing_client.get("/v1/items/13").json()["nearest"] == []
    assert ids(growing_client.get("/v1/latest", params={"n": 1})) == ["77"]
    assert growing_client.post("/v1/explain", json={"history": [], "item_id": "77"}).json()["rank"] == 7


def test_put_when_what_encodes_is_still_loading_then_the_item_is_stored_and_shown_once_it_is_there(
    shop: Path, fake: Fake
) -> None:
    gate = threading.Event()

    def slow(folder: Path) -> Any:
        bundle = growing(fake, folder)
        encode = bundle.with_items

        def with_items(items: pa.Table) -> Any:
            gate.wait(60)
            return encode(items)

        bundle.with_items = with_items
        return bundle

    config = ServingConfig(write_seconds=1.0, deadline_seconds=60, store_seconds=60)
    with TestClient(create_app(shop, loader=slow, config=config)) as client:
        assert service_of(client).releases.wait(10)
        answer = put(client, {"item_id": "77"})
        assert (answer["accepted"], answer["new"], answer["encoded"], answer["pending"]) == (1, 1, [], 1)
        assert "77" not in everything(client)
        gate.set()
        deadline = time.monotonic() + 60
        while "77" not in everything(client):
            assert time.monotonic() < deadline


def test_put_when_a_history_holds_it_then_the_model_is_shown_its_row(growing_client: TestClient, fake: Fake) -> None:
    growing_client.post("/v1/events", json=[event("early", "77")])  # before the shop knows the item
    put(growing_client, {"item_id": "77"})
    assert "77" not in everything(growing_client, user_id="u", history=None)
    assert fake.histories[-1].items.tolist() == [6]


def test_put_when_the_server_starts_again_then_the_item_is_there(shop: Path, fake: Fake) -> None:
    for first in (True, False):
        with TestClient(create_app(shop, loader=lambda folder: growing(fake, folder))) as client:
            assert service_of(client).releases.wait(10)
            if first:
                put(client, {"item_id": "77", "title": "Seven"})
            assert everything(client)[-1] == "77"


def test_put_when_an_item_is_known_then_its_columns_change_and_its_codes_stay(client: TestClient) -> None:
    put(client, {"item_id": "10", "title": "Renamed", "price": 100})
    assert ids(client.get("/v1/items", params={"query": "renamed"})) == ["10"]
    assert everything(client, filter={"where": [{"field": "price", "op": ">", "value": 50}]}) == ["10"]
    assert client.get("/v1/items/10").json()["facets"] == ["crime", "night"]
    assert client.get("/v1/items/10").json()["categories"] == ["Film", "Noir"]


def test_put_when_dates_say_not_now_then_is_not_shown(client: TestClient) -> None:
    now = int(time.time())
    put(
        client,
        {"item_id": "10", "starts_at": now + 1000},
        {"item_id": "11", "ends_at": now - 1000},
        {"item_id": "12", "starts_at": now - 1000, "ends_at": now + 1000},
        {"item_id": "13", "available": False},
    )
    assert everything(client) == ["12", "14", "15"]
    assert client.post("/v1/explain", json={"history": [], "item_id": "10"}).json()["barred_by"] == [
        "it is not available now"
    ]


@pytest.mark.parametrize("broken", [False, True])
def test_delete_when_done_then_the_item_is_off_sale_until_put_again(shop: Path, broken: bool) -> None:
    with opened(shop, None if broken else Fake()) as client:
        assert client.delete("/v1/items/13").status_code == 204
        assert "13" not in everything(client)
        assert client.get("/v1/items/13").json()["available"] is False
        put(client, {"item_id": "13"})
        assert "13" in everything(client)
        assert is_problem(client.delete("/v1/items/99"), 404)


def test_put_when_rows_are_bad_then_says_so_and_keeps_the_others(client: TestClient) -> None:
    answer = put(
        client,
        {"item_id": "10", "price": "cheap"},
        {"item_id": "11", "price": 5},
        {"title": "no id"},
        {"item_id": "12", "nested": {"a": 1}},
        {"item_id": "99"},
        {"item_id": "13", "categories": "Film"},
    )
    assert answer["accepted"] == 1
    assert [row["index"] for row in answer["rejected"]] == [0, 2, 3, 4, 5]
    reasons = [row["reason"] for row in answer["rejected"]]
    assert "price: must be double" in reasons[0]
    assert "holds no tokenizer" in reasons[3]
    assert is_problem(client.put("/v1/items", json={"item_id": "10"}), 422)


def test_requests_when_items_change_meanwhile_then_each_sees_one_release(growing_client: TestClient) -> None:
    service = service_of(growing_client)
    before = service.releases.current
    put(growing_client, {"item_id": "77"})
    after = service.releases.current
    assert (len(before.items), len(after.items)) == (6, 7)
    assert before.facets.codes_NM.shape == (6, 2)
    assert after.facets.codes_NM.shape == (7, 2)
    put(growing_client, {"item_id": "10", "price": 3})
    assert service.releases.current.model is after.model  # nothing new: nothing is encoded again
