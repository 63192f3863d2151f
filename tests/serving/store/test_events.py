"""Events on SQLite and on PostgreSQL: once each, in order, forgotten when asked, seeded once."""

from collections.abc import Iterator

import pytest

from serving.store import Store, open_store
from serving.store.events import StoredEvent


@pytest.fixture
def store(any_store_url: str) -> Iterator[Store]:
    found = open_store(any_store_url)
    yield found
    found.close()


def stored(event_id: str, item_id: str = "i", at: int = 100, user: str = "u", weight: float = 1.0) -> StoredEvent:
    return StoredEvent(event_id=event_id, user_id=user, item_id=item_id, event_type="view", timestamp=at, weight=weight)


def test_add_when_an_event_comes_twice_then_is_kept_once(store: Store) -> None:
    assert store.events.add([stored("a"), stored("b"), stored("a")]) == 2
    assert store.events.add([stored("b"), stored("c")]) == 1
    assert store.events.add([]) == 0


def test_past_when_limited_then_keeps_the_latest_and_all_that_was_seen(store: Store) -> None:
    store.events.add([stored(str(at), f"i{at}", at) for at in (3, 1, 2)])
    past = store.events.past("u", 2)
    assert past.events == (("i2", 2), ("i3", 3))
    assert sorted(past.seen) == ["i1", "i2", "i3"]


def test_past_when_times_are_equal_then_is_in_the_order_of_arrival(store: Store) -> None:
    store.events.add([stored("z", "first"), stored("a", "second")])
    store.events.add([stored("m", "third")])
    assert [item for item, _ in store.events.past("u", 10).events] == ["first", "second", "third"]


def test_past_when_an_event_is_a_dislike_then_is_seen_and_no_history(store: Store) -> None:
    store.events.add([stored("a", "liked"), stored("b", "hated", weight=-1.0)])
    past = store.events.past("u", 10)
    assert [item for item, _ in past.events] == ["liked"]
    assert sorted(past.seen) == ["hated", "liked"]


def test_seed_when_the_same_log_comes_again_then_adds_nothing(store: Store) -> None:
    log = [stored(f"log:x:{place}", f"i{place}", place) for place in range(12)]
    assert store.events.seed("x", log) == 12
    assert store.events.seeded("x")
    assert store.events.seed("x", log) == 0


def test_seed_when_clients_sent_some_of_it_already_then_doubles_none(store: Store) -> None:
    store.events.add([stored("client", "i1", 1)])
    assert store.events.seed("x", [stored("log:x:0", "i1", 1), stored("log:x:1", "i2", 2)]) == 1
    assert [item for item, _ in store.events.past("u", 10).events] == ["i1", "i2"]


def test_seed_when_a_log_holds_one_item_twice_in_a_second_then_keeps_both(store: Store) -> None:
    assert store.events.seed("x", [stored("log:x:0", "i1", 1), stored("log:x:1", "i1", 1)]) == 2


def test_forget_when_a_later_log_holds_the_user_then_older_events_stay_out(store: Store) -> None:
    store.events.add([stored("a"), stored("b", user="other")])
    assert store.events.forget("u") == (1, 0)
    assert store.events.past("u", 10).seen == ()
    assert store.events.seed("y", [stored("log:y:0", at=5), stored("log:y:1", at=5, user="new")]) == 1
    assert store.events.add([stored("returns", at=2_000_000_000)]) == 1
    assert store.events.past("other", 10).seen == ("i",)


def test_expire_when_events_are_older_then_deletes_those_only(store: Store) -> None:
    store.events.add([stored("old", at=10), stored("new", at=20)])
    assert store.events.expire(20) == 1
    assert store.events.past("u", 10).events == (("i", 20),)


def test_first_seen_when_items_have_events_then_gives_the_earliest(store: Store) -> None:
    store.events.add([stored("a", "x", 5), stored("b", "x", 3), stored("c", "y", 9)])
    assert store.events.first_seen() == {"x": 3, "y": 9}
