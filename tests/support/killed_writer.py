"""A process that stores events until it is killed with SIGKILL, and what it acknowledged before."""

import multiprocessing
import os
import random
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from sqlalchemy import text

from serving.store import open_store
from serving.store.events import StoredEvent

# Writers are forked from a server that has imported all they need, so that a trial costs milliseconds. This module
# imports no pytest for the same reason.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.support.killed_writer", "alembic.command", "alembic.context", "sqlalchemy.dialects.sqlite", "psycopg"]
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One writer: the groups of event ids that it acknowledged, and how it ended."""

    number: int
    acknowledged: tuple[tuple[str, ...], ...]
    exit_code: int
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a store holds after all trials; the tuples name event ids and are empty where all is well."""

    trials: int
    groups: int
    events: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    torn: tuple[str, ...]
    ended_alone: tuple[str, ...]


def trials_of(url: str, trials: int, *, seed: int, writers: int = 1) -> Verdict:
    """Kill writers at random moments, ``writers`` of them at once, and compare the store with their acknowledgements.

    A group is torn where only a part of its events is kept, acknowledged or not.
    """
    open_store(url).close()
    rng = random.Random(seed)
    found: list[Trial] = []
    while len(found) < trials:
        numbers = range(len(found), min(trials, len(found) + writers))
        running = [_start(url, number) for number in numbers]
        found += [_killed(*one, rng=rng) for one in running]
    return _verdict(url, found)


def group_ids(trial: int, number: int) -> tuple[str, ...]:
    """Return the ids of a writer's n-th group: one to three of them."""
    return tuple(f"{trial}-{number}-{place}" for place in range(1 + number % 3))


def _store_until_killed(url: str, trial: int, acknowledged: "Connection[str, int]") -> None:
    number = 0
    try:
        store = open_store(url, write_seconds=300)
        while True:
            events = [
                StoredEvent(event_id=id_, user_id=f"u{trial}", item_id=id_, event_type="view", timestamp=number)
                for id_ in group_ids(trial, number)
            ]
            added = store.events.add(events)
            if added != len(events):
                raise AssertionError(f"group {number} must add {len(events)} events, got {added}")
            acknowledged.send(number)
            number += 1
    except Exception:
        acknowledged.send(traceback.format_exc())
        raise


_Running = tuple[int, "multiprocessing.process.BaseProcess", "Connection[int, int | str]"]


def _start(url: str, number: int) -> _Running:
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    writer = _CONTEXT.Process(target=_store_until_killed, args=(url, number, theirs))
    writer.start()
    theirs.close()
    return number, writer, ours


def _killed(
    number: int,
    writer: "multiprocessing.process.BaseProcess",
    told: "Connection[int, int | str]",
    *,
    rng: random.Random,
) -> Trial:
    """Kill a writer after some groups, and return all that it acknowledged until then."""
    groups: list[int] = []
    failure = ""
    wanted = rng.randrange(0, 8)
    killed = False
    while True:
        if not killed and (len(groups) >= wanted or failure):
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            killed = True
        try:
            message = told.recv()
        except (EOFError, OSError):
            break
        if isinstance(message, int):
            groups.append(message)
        else:
            failure = message
    writer.join()
    code = writer.exitcode
    assert code is not None
    return Trial(
        number=number,
        acknowledged=tuple(group_ids(number, group) for group in groups),
        exit_code=code,
        failure=failure,
    )


def _verdict(url: str, trials: Sequence[Trial]) -> Verdict:
    acknowledged = [id_ for trial in trials for group in trial.acknowledged for id_ in group]
    store = open_store(url)
    with store.engine.connect() as connection:
        kept = list(connection.execute(text("select event_id from events")).scalars())
    again = [StoredEvent(event_id=id_, user_id="u", item_id="i", event_type="x", timestamp=0) for id_ in acknowledged]
    added = store.events.add(again)
    store.close()
    have = set(kept)
    lost = tuple(sorted(set(acknowledged) - have))
    assert added == len(lost), f"{added} acknowledged events were new when sent again, {len(lost)} are lost"
    groups = {(int(trial), int(number)) for trial, number, _place in (id_.split("-") for id_ in kept)}
    torn = tuple(
        f"{trial}-{number}" for trial, number in sorted(groups) if not have.issuperset(group_ids(trial, number))
    )
    alone = tuple(
        f"trial {trial.number}: exit code {trial.exit_code}, {trial.failure or 'no message'}"
        for trial in trials
        if trial.failure or trial.exit_code != -signal.SIGKILL
    )
    return Verdict(
        trials=len(trials),
        groups=sum(len(trial.acknowledged) for trial in trials),
        events=len(acknowledged),
        lost=lost,
        doubled=tuple(sorted(id_ for id_ in have if kept.count(id_) > 1)) if len(kept) != len(have) else (),
        torn=torn,
        ended_alone=alone,
    )
