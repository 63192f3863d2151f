"""Histories under a hanging or failing store: answers go on, say so, and never wait longer than the deadline."""

import asyncio
import threading
import time
from pathlib import Path

from sqlalchemy.exc import OperationalError

from serving.histories import Histories, KnownUser, StoreThreads
from serving.store.events import EventStore, UserPast
from tests.support.small_shop import Fake, event, ids, is_problem, opened, service_of


class ScriptedEvents:
    """Reads that answer, hang or fail."""

    def __init__(self) -> None:
        self.item = "a"
        self.reads = 0
        self.gate: threading.Event | None = None
        self.fails = False
        self.started = threading.Event()

    def past(self, _user_id: str, _limit: int) -> UserPast:
        self.reads += 1
        self.started.set()
        if self.gate is not None:
            self.gate.wait(10)
        if self.fails:
            raise OperationalError("select", {}, Exception("away"))
        return UserPast(events=((self.item, 1),), seen=(self.item,))


def histories_of(events: ScriptedEvents, *, sole_writer: bool = True, seconds: float = 5.0) -> Histories:
    found: EventStore = events  # type: ignore[assignment]
    return Histories(found, StoreThreads(), limit=10, seconds=seconds, cached=2, sole_writer=sole_writer)


def test_of_when_nobody_else_writes_then_reads_once_until_an_event_comes() -> None:
    async def run() -> None:
        events = ScriptedEvents()
        histories = histories_of(events)
        assert (await histories.of("u")).past.seen == ("a",)
        await histories.of("u")
        assert events.reads == 1
        events.item = "b"
        histories.changed({"u"})
        assert (await histories.of("u")).past.seen == ("b",)
        assert events.reads == 2

    asyncio.run(run())


def test_of_when_others_write_too_then_reads_every_time() -> None:
    async def run() -> None:
        events = ScriptedEvents()
        histories = histories_of(events, sole_writer=False)
        await histories.of("u")
        await histories.of("u")
        assert events.reads == 2

    asyncio.run(run())


async def held_read(histories: Histories, events: ScriptedEvents) -> asyncio.Task[KnownUser]:
    """Begin to read a user, who is read once the gate of the events is set."""
    events.gate = threading.Event()
    reading = asyncio.create_task(histories.of("u"))
    await asyncio.to_thread(events.started.wait, 10)
    return reading


def test_of_when_an_event_comes_during_a_read_then_the_next_request_reads_again() -> None:
    async def run() -> None:
        events = ScriptedEvents()
        histories = histories_of(events)
        reading = await held_read(histories, events)
        histories.changed({"u"})
        events.gate.set()
        await reading
        await histories.of("u")
        assert events.reads == 2

    asyncio.run(run())


def test_forget_when_the_user_is_being_read_then_what_was_read_is_not_kept() -> None:
    async def run() -> None:
        events = ScriptedEvents()
        histories = histories_of(events)
        reading = await held_read(histories, events)
        assert histories.users() == ["u"]
        histories.forget("u")
        events.gate.set()
        await reading
        assert histories.users() == []
        await histories.of("u")
        assert histories.users() == ["u"]

    asyncio.run(run())


def test_of_when_the_store_fails_or_hangs_then_gives_what_it_had_and_says_so() -> None:
    async def run() -> None:
        events = ScriptedEvents()
        histories = histories_of(events, sole_writer=False, seconds=0.2)
        await histories.of("u")
        events.fails = True
        known = await histories.of("u")
        assert (known.stale, known.past.seen) == (True, ("a",))
        events.fails, events.gate = False, threading.Event()
        known = await histories.of("u")
        assert (known.stale, known.past.seen) == (True, ("a",))
        assert (await histories.of("stranger")).past.seen == ()
        events.gate.set()

    asyncio.run(run())


def test_of_when_more_users_come_than_are_kept_then_the_oldest_make_room() -> None:
    async def run() -> None:
        events = ScriptedEvents()
        histories = histories_of(events)
        for user in ("u", "v", "w", "u"):
            await histories.of(user)
        assert events.reads == 4

    asyncio.run(run())


def test_recommend_when_the_store_is_locked_then_answers_and_events_get_503(shop: Path) -> None:
    with opened(shop, Fake(), config={"store_seconds": 0.2, "write_seconds": 1.0}) as client:
        store = service_of(client).store
        lock = store.engine.raw_connection()
        lock.cursor().execute("BEGIN EXCLUSIVE")
        answer = client.post("/v1/recommend", json={"user_id": "u", "n": 2})
        assert ids(answer) == ["10", "11"]
        refused = client.post("/v1/events", json=[event("a", "10")])
        assert is_problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
        lock.rollback()
        lock.close()
        deadline = time.monotonic() + 60
        while client.post("/v1/events", json=[event("a", "10")]).status_code != 202:
            assert time.monotonic() < deadline


def test_recommend_when_the_store_is_away_then_answers_and_says_so(shop: Path) -> None:
    with opened(shop, Fake()) as client:

        def away(_user_id: str, _limit: int) -> UserPast:
            raise OperationalError("select", {}, Exception("away"))

        service_of(client).store.events.past = away  # type: ignore[method-assign]
        answer = client.post("/v1/recommend", json={"user_id": "u", "n": 1})
        assert (ids(answer), answer.json()["degraded"]) == (["10"], "history_unavailable")


def test_recommend_when_the_store_hangs_then_the_request_s_own_deadline_holds(shop: Path) -> None:
    with opened(shop, Fake(), config={"store_seconds": 300}) as client:
        gate = threading.Event()

        def hangs(_user_id: str, _limit: int) -> UserPast:
            gate.wait(60)  # far longer than what the request waits
            return UserPast(events=(("10", 1),), seen=("10",))

        service_of(client).store.events.past = hangs  # type: ignore[method-assign]
        answer = client.post("/v1/recommend", json={"user_id": "u", "n": 1, "timeout_ms": 100})
        assert not gate.is_set()
        gate.set()
        # The time is over before the model is asked, so the fallback answers; 13 is what most have.
        assert (ids(answer), answer.json()["degraded"]) == (["13"], "model_late")
        metrics = client.get("/metrics").text
        assert 'recsys_histories_total{outcome="away"} 1.0' in metrics


def test_metrics_when_users_ask_again_then_tell_kept_pasts_and_the_seconds_of_every_stage(shop: Path) -> None:
    with opened(shop, Fake()) as client:
        for _ in range(3):
            client.post("/v1/recommend", json={"user_id": "u"})
        metrics = client.get("/metrics").text
    assert 'recsys_histories_total{outcome="read"} 1.0' in metrics
    assert 'recsys_histories_total{outcome="kept"} 2.0' in metrics
    assert "recsys_kept_users 1.0" in metrics
    for stage in ("history", "question", "answer", "model"):
        assert f'recsys_stage_seconds_count{{stage="{stage}"}} 3.0' in metrics
