"""The training log in the store: known users are known from the first request, once, across restarts and logs."""

from pathlib import Path

import pyarrow as pa

from recsys.data.prepare import PrepareConfig, prepare, save_prepared
from recsys.data.table import build_dataset
from tests.support.small_shop import IDS, Fake, event, ids, opened, service_of


def write_log(run: Path, rows: list[tuple[str, str, int]]) -> None:
    """Put a log of (user, item, time) into a run folder as its training data."""
    users, items, times = zip(*rows, strict=True)
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    dataset = build_dataset(table, pa.table({"item_id": IDS}), where="the test's log")
    save_prepared(prepare(dataset, PrepareConfig()), run / "data")


LOG = [("ann", "10", 5), ("ann", "12", 3), ("ann", "12", 9), ("bob", "15", 1)]


def test_recommend_when_a_user_is_of_the_training_log_then_has_a_history_and_gets_nothing_seen(
    shop: Path, fake: Fake
) -> None:
    write_log(shop, LOG)
    with opened(shop, fake) as client:
        answer = client.post("/v1/recommend", json={"user_id": "ann"})
        assert ids(answer) == ["11", "13", "14", "15"]
        assert answer.json()["degraded"] is None
        # Rows 2, 0, 2 at 3, 5, 9 seconds.
        assert fake.histories[-1].items.tolist() == [2, 0, 2]
        assert fake.histories[-1].timestamps.tolist() == [3, 5, 9]
        assert ids(client.post("/v1/recommend", json={"user_id": "bob", "n": 1})) == ["10"]
        client.post("/v1/events", json=[event("e", "11", 20, "ann")])
        assert ids(client.post("/v1/recommend", json={"user_id": "ann"})) == ["13", "14", "15"]


def test_start_when_the_log_was_stored_before_then_stores_nothing_again(shop: Path) -> None:
    write_log(shop, LOG)
    for _ in range(2):
        with opened(shop, Fake()) as client:
            assert len(service_of(client).store.events.past("ann", 10).events) == 3


def test_start_when_the_log_grew_by_a_day_then_only_the_day_is_new(shop: Path) -> None:
    write_log(shop, LOG)
    with opened(shop, Fake()) as client:
        client.post("/v1/events", json=[event("e", "11", 20, "ann")])
    # The next training's log holds what the service exported.
    write_log(shop, [*LOG, ("ann", "11", 20), ("cat", "13", 30)])
    with opened(shop, Fake()) as client:
        events = service_of(client).store.events
        assert [item for item, _ in events.past("ann", 10).events] == ["12", "10", "12", "11"]
        assert [item for item, _ in events.past("cat", 10).events] == ["13"]


def test_forgetting_when_a_user_is_of_the_log_then_a_restart_does_not_bring_them_back(shop: Path) -> None:
    write_log(shop, LOG)
    with opened(shop, Fake()) as client:
        client.post("/v1/recommend", json={"user_id": "ann"})
        assert client.delete("/v1/users/ann").json() == {"events": 3, "exposures": 1}
        assert ids(client.post("/v1/recommend", json={"user_id": "ann", "n": 1})) == ["10"]
    write_log(shop, [*LOG, ("bob", "10", 40)])
    with opened(shop, Fake()) as client:
        assert service_of(client).store.events.past("ann", 10).seen == ()
