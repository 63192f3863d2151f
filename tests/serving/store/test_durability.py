"""kill -9 while events are stored: none that was acknowledged is lost, none is there twice."""

import multiprocessing
import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from sqlalchemy import text

from serving.store import open_store
from serving.store.events import StoredEvent

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["serving.store"])


def store_until_killed(url: str, trial: int, acknowledged: Connection) -> None:
    """Store groups of one to three events, and say which ones are stored."""
    store = open_store(url)
    number = 0
    while True:
        size = 1 + number % 3
        ids = [f"{trial}-{number + place}" for place in range(size)]
        events = [
            StoredEvent(event_id=id_, user_id="u", item_id=id_, event_type="view", timestamp=number) for id_ in ids
        ]
        store.events.add(events)
        acknowledged.send(ids)
        number += size


def one_trial(url: str, trial: int, rng: random.Random) -> list[str]:
    """Kill a writer after it acknowledged some groups, and return what it acknowledged."""
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    writer = _CONTEXT.Process(target=store_until_killed, args=(url, trial, theirs))
    writer.start()
    theirs.close()
    acknowledged: list[str] = []
    for _ in range(rng.randrange(1, 8)):
        acknowledged += ours.recv()
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    try:
        while True:
            acknowledged += ours.recv()
    except (EOFError, OSError):
        pass
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    return acknowledged


def survives(url: str, trials: int) -> None:
    open_store(url).close()
    rng = random.Random(7)
    acknowledged = [id_ for trial in range(trials) for id_ in one_trial(url, trial, rng)]
    store = open_store(url)
    with store.engine.connect() as connection:
        kept = list(connection.execute(text("select event_id from events")).scalars())
    assert len(kept) == len(set(kept))
    assert set(acknowledged) <= set(kept)
    again = [StoredEvent(event_id=id_, user_id="u", item_id="i", event_type="x", timestamp=0) for id_ in acknowledged]
    assert store.events.add(again) == 0
    store.close()


def test_add_when_the_writer_is_killed_then_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    survives(f"sqlite:///{tmp_path / 's.db'}", trials=10)


@pytest.mark.postgres
def test_add_on_postgres_when_the_writer_is_killed_then_keeps_what_it_acknowledged(postgres_url: str) -> None:
    survives(postgres_url, trials=3)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_add_when_writers_are_killed_a_thousand_times_then_nothing_is_lost(tmp_path: Path) -> None:
    survives(f"sqlite:///{tmp_path / 's.db'}", trials=1000)


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.timeout(1800)
def test_add_on_postgres_when_writers_are_killed_a_hundred_times_then_nothing_is_lost(postgres_url: str) -> None:
    survives(postgres_url, trials=100)
