"""Run-time items, rules and settings on both databases: versions rise, the latest counts."""

from collections.abc import Iterator

import pytest

from serving.store import Store, open_store
from serving.store.changes import StoredItem


@pytest.fixture
def store(any_store_url: str) -> Iterator[Store]:
    found = open_store(any_store_url)
    yield found
    found.close()


def test_items_when_put_again_then_are_changed_and_raise_the_counter(store: Store) -> None:
    assert store.changes.put_items([StoredItem(item_id="a", body={"title": "A"}, added_at=5)]) == 1
    assert store.changes.put_items([StoredItem(item_id="a", body={"title": "B"}, available=False, ends_at=9)]) == 2
    (item,) = store.changes.items()
    assert (item.body, item.available, item.ends_at, item.added_at) == ({"title": "B"}, False, 9, 5)
    assert store.changes.counters()["items"] == 2


def test_rules_when_put_again_then_the_latest_version_counts(store: Store) -> None:
    first = store.changes.put_rule("sale", {"kind": "boost"})
    second = store.changes.put_rule("sale", {"kind": "bury"})
    assert (first.version, second.version) == (1, 2)
    assert [(rule.name, rule.version, rule.body) for rule in store.changes.rules()] == [("sale", 2, {"kind": "bury"})]


def test_settings_when_set_twice_then_the_last_counts(store: Store) -> None:
    assert store.changes.setting("active_model") is None
    store.changes.set("active_model", "a")
    store.changes.set("active_model", "b")
    assert store.changes.setting("active_model") == "b"
