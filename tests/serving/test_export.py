"""The loop closes: what a service kept comes out as a data set that training and replay read."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.core.errors import DataError
from recsys.data.table import read_dataset
from serving.export import Exported, export_store
from serving.store import open_store
from tests.support.small_shop import Fake, event, ids, opened, service_of

NOW = 1_700_000_000


def url_of(shop: Path) -> str:
    return f"sqlite:///{shop / 'serving' / 'events.db'}"


def test_export_when_slates_were_shown_and_clicked_then_holds_events_rewards_and_propensities(
    shop: Path, tmp_path: Path
) -> None:
    with opened(shop, Fake(), config={"explore_share": 0.5}) as client:
        client.post("/v1/events", json=[event("a", "10", NOW, "ann"), event("x", "99", NOW + 5, "ann")])
        answer = client.post("/v1/recommend", json={"user_id": "ann", "n": 4, "surface": "home", "device": "phone"})
        first, second, *_ = ids(answer)
        request_id = answer.json()["request_id"]
        client.post(
            "/v1/events",
            json=[
                event("b", first, NOW + 9, "ann", request_id=request_id, event_type="buy", weight=2.0),
                event("c", second, NOW + 10, "ann", request_id=request_id, weight=-1),
            ],
        )
        said = [item["propensity"] for item in answer.json()["items"]]
    exported = export_store(url_of(shop), tmp_path / "out", run=shop)
    assert exported == Exported(events=4, items=7, exposures=4)
    dataset = read_dataset(tmp_path / "out")
    assert dataset.interactions["item_id"].to_pylist() == [int(one) for one in ("10", "99", first, second)]
    assert dataset.interactions["weight"].to_pylist() == [1.0, 1.0, 2.0, -1.0]
    titles = dict(zip(dataset.items["item_id"].to_pylist(), dataset.items["title"].to_pylist(), strict=True))
    assert titles[10] == "Title 10"
    shown = pq.read_table(tmp_path / "out" / "impressions.parquet")
    assert shown["reward"].to_pylist() == [2.0, -1.0, 0.0, 0.0]
    assert shown["propensity"].to_pylist() == pytest.approx(said)
    assert shown["slate_propensity"].to_pylist() == pytest.approx([said[2] * said[3]] * 4)
    assert set(shown["context"].to_pylist()) == {"home"}
    assert set(shown["device"].to_pylist()) == {"phone"}
    assert shown["position"].to_pylist() == [0, 1, 2, 3]


def test_export_when_a_fallback_answered_then_its_exposures_have_no_propensity(shop: Path, tmp_path: Path) -> None:
    with opened(shop, None) as client:
        client.post("/v1/events", json=[event("a", "10", NOW)])
        client.post("/v1/recommend", json={"history": [], "n": 2})
    export_store(url_of(shop), tmp_path / "out")
    shown = pq.read_table(tmp_path / "out" / "impressions.parquet")
    assert shown["propensity"].to_pylist() == [None, None]
    assert shown["strategy"].to_pylist() == ["popular", "popular"]
    assert shown["model_version"].to_pylist() == [None, None]


def test_export_when_items_were_put_then_holds_their_columns(shop: Path, tmp_path: Path) -> None:
    with opened(shop, Fake()) as client:
        client.post("/v1/events", json=[event("a", "10", NOW)])
        client.put("/v1/items", json=[{"item_id": "10", "title": "Renamed", "colour": "red"}])
        assert service_of(client).store.changes.items()
    export_store(url_of(shop), tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert (row["title"], row["colour"]) == ("Renamed", "red")


def test_export_when_nothing_happened_then_says_so(any_store_url: str, tmp_path: Path) -> None:
    open_store(any_store_url).close()
    with pytest.raises(DataError, match="at least one event"):
        export_store(any_store_url, tmp_path / "out")
