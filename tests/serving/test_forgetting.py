"""A person whom one server forgets is forgotten by every server of the store, within the time of a sync."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from serving.fallback import LastGoodAnswers
from serving.store.events import UserPast
from tests.support.small_shop import Fake, event, ids, opened, service_of

ASK = {"user_id": "u", "n": 6}


@pytest.fixture
def two(shop: Path, any_store_url: str) -> Iterator[tuple[TestClient, TestClient]]:
    """Two servers of one store that know nothing of each other."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(opened(shop, Fake(), store=any_store_url, config={"sole_writer": False}))
            for _ in range(2)
        )
        yield first, second


def wait_until_forgotten(client: TestClient) -> None:
    """Ask a server for something else until it keeps nothing of the user; fails after a minute."""
    service, deadline = service_of(client), time.monotonic() + 60
    while "u" in {*service.histories.users(), *service.last_good_answers.users()}:
        client.get("/v1/popular")
        assert time.monotonic() < deadline


def test_delete_when_another_server_keeps_the_user_then_it_forgets_too(two: tuple[TestClient, TestClient]) -> None:
    here, there = two
    here.post("/v1/events", json=[event("e1", "10"), event("e2", "11", user="other")])
    assert ids(there.post("/v1/recommend", json=ASK)) == ["11", "12", "13", "14", "15"]
    there.post("/v1/recommend", json=ASK | {"user_id": "other"})
    assert "u" in service_of(there).last_good_answers.users()
    assert here.delete("/v1/users/u").json()["events"] == 1
    wait_until_forgotten(there)
    assert "other" in service_of(there).last_good_answers.users()

    # What is kept in memory serves while the store is away: now that must be nothing.
    def away(_user_id: str, _limit: int) -> UserPast:
        raise OperationalError("select", {}, Exception("away"))

    events = service_of(there).store.events
    read, events.past = events.past, away  # type: ignore[method-assign]
    unknown = there.post("/v1/recommend", json=ASK)
    assert (ids(unknown), unknown.json()["degraded"]) == (["10", "11", "12", "13", "14", "15"], "history_unavailable")
    events.past = read  # type: ignore[method-assign]


def test_delete_when_the_user_comes_back_then_starts_empty_on_every_server(two: tuple[TestClient, TestClient]) -> None:
    here, there = two
    here.post("/v1/events", json=[event("e1", "10")])
    there.post("/v1/recommend", json=ASK)
    here.delete("/v1/users/u")
    wait_until_forgotten(there)
    there.post("/v1/events", json=[event("back", "12")])
    for server in two:
        assert ids(server.post("/v1/recommend", json=ASK)) == ["10", "11", "13", "14", "15"]


def test_last_good_when_a_user_is_forgotten_meanwhile_then_the_answer_is_not_kept() -> None:
    last_good = LastGoodAnswers(10)
    began = last_good.forgotten
    last_good.forget("u")
    last_good.keep("u", ["10"], began=began)
    assert last_good.of("u") == ()
    last_good.keep("u", ["11"], began=last_good.forgotten)
    assert last_good.of("u") == ("11",)
