"""Exposures on both databases: what was shown comes back as it was."""

from collections.abc import Iterator

import pytest

from serving.store import Store, open_store
from serving.store.slates import Exposure


@pytest.fixture
def store(any_store_url: str) -> Iterator[Store]:
    found = open_store(any_store_url)
    yield found
    found.close()


def exposure(request_id: str, at: int = 5, user: str | None = "u") -> Exposure:
    return Exposure(
        request_id=request_id,
        user_id=user,
        at=at,
        model_version="v",
        policy="greedy",
        strategy="recsys",
        degraded=None,
        item_ids=["a", "b"],
        scores=[0.5, -1.0],
        propensities=[1.0, None],
        slate_propensity=0.25,
        surface="home",
        device="phone",
        arm="b",
    )


def test_get_when_added_then_is_the_same(store: Store) -> None:
    store.slates.add([exposure("r1"), exposure("r2", user=None)])
    store.slates.add([exposure("r1")])  # a group that is written again after a lost answer
    assert store.slates.get("r1") == exposure("r1")
    assert store.slates.get("nope") is None
    assert [one.request_id for one in store.slates.every()] == ["r1", "r2"]


def test_expire_when_exposures_are_older_then_deletes_those_only(store: Store) -> None:
    store.slates.add([exposure("old", at=1), exposure("new", at=2)])
    assert store.slates.expire(2) == 1
    assert [one.request_id for one in store.slates.every()] == ["new"]


def test_forget_when_a_user_was_shown_something_then_it_goes(store: Store) -> None:
    store.slates.add([exposure("r1"), exposure("r2", user="other")])
    assert store.events.forget("u") == (0, 1)
    assert [one.request_id for one in store.slates.every()] == ["r2"]


def test_add_when_the_user_was_forgotten_meanwhile_then_only_what_was_shown_later_is_kept(store: Store) -> None:
    # Another server may hold what it showed before: at 5, long before now.
    store.events.forget("u")
    store.slates.add([exposure("before"), exposure("other", user="other"), exposure("nobody", user=None)])
    store.slates.add([exposure("after", at=2_000_000_000)])
    assert [one.request_id for one in store.slates.every()] == ["nobody", "other", "after"]
