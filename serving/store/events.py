"""Events in SQL: durable before the answer, idempotent by event id, a user's history in time order."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from serving.store import counters
from serving.store.counters import raise_counter
from serving.store.tables import EVENTS, FORGOTTEN, SLATES, SOURCES
from serving.store.users import forgotten_at, user_hash

_CHUNK = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEvent:
    """One event as it is kept; ids are text here, whatever they are in the catalogue."""

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    timestamp: int
    request_id: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class UserPast:
    """What a user did: the latest liked events, oldest first, and every item the user liked or disliked."""

    events: tuple[tuple[str, int], ...]
    seen: tuple[str, ...]


class EventStore:
    """Events behind an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._insert_new = dialect.insert(EVENTS).on_conflict_do_nothing().returning(EVENTS.c.event_id)
        self._insert_forgotten = dialect.insert(FORGOTTEN)

    def add(self, events: Sequence[StoredEvent]) -> int:
        """Store the events not stored before and return how many those were; on return they are on disk."""
        if not events:
            return 0
        with self._engine.begin() as connection:
            return self._add(connection, events)

    def past(self, user_id: str, limit: int) -> UserPast:
        """Return a user's latest ``limit`` events and all items seen, however long ago."""
        columns = (EVENTS.c.item_id, EVENTS.c.timestamp, EVENTS.c.weight)
        latest: Select[Any] = (
            select(*columns)
            .where(EVENTS.c.user_id == user_id)
            .order_by(EVENTS.c.timestamp.desc(), EVENTS.c.received_at.desc())
            .limit(limit)
        )
        with self._engine.connect() as connection:
            found = connection.execute(latest).all()
            if len(found) < limit:
                seen = tuple(dict.fromkeys(row[0] for row in found if row[2]))
            else:
                every = select(EVENTS.c.item_id).where(EVENTS.c.user_id == user_id, EVENTS.c.weight != 0).distinct()
                seen = tuple(connection.execute(every).scalars())
        liked = tuple((item_id, int(at)) for item_id, at, weight in reversed(found) if weight > 0)
        return UserPast(events=liked, seen=seen)

    def first_seen(self) -> dict[str, int]:
        """Return the time of each item's first event."""
        query = select(EVENTS.c.item_id, func.min(EVENTS.c.timestamp)).group_by(EVENTS.c.item_id)
        with self._engine.connect() as connection:
            return {item_id: int(at) for item_id, at in connection.execute(query)}

    def seeded(self, content_hash: str) -> bool:
        """Tell whether a log was stored before."""
        with self._engine.connect() as connection:
            query = select(SOURCES.c.at).where(SOURCES.c.content_hash == content_hash)
            return connection.execute(query).first() is not None

    def seed(self, content_hash: str, events: Iterable[StoredEvent]) -> int:
        """Store the events of a log unless this very log was stored before, and return how many were new.

        An event that is there already (same user, item and time) from a client or an earlier log is not stored a
        second time, nor is one of a user who was forgotten after it.
        """
        with self._engine.begin() as connection:
            if connection.execute(select(SOURCES.c.at).where(SOURCES.c.content_hash == content_hash)).first():
                return 0
            added, began = 0, time.time_ns()
            chunk: list[StoredEvent] = []
            for event in events:
                chunk.append(event)
                if len(chunk) == _CHUNK:
                    added += self._add_unknown(connection, chunk, began)
                    chunk = []
            added += self._add_unknown(connection, chunk, began)
            row = {"content_hash": content_hash, "at": int(time.time()), "events": added}
            connection.execute(SOURCES.insert(), [row])
            return added

    def forget(self, user_id: str) -> tuple[int, int]:
        """Delete a user's events and exposures and return how many rows of each; a log seeded later stays out, too."""
        insert = self._insert_forgotten
        changed = {name: insert.excluded[name] for name in ("at", "version")}
        with self._engine.begin() as connection:
            version = raise_counter(connection, counters.FORGOTTEN)
            row = {"user_hash": user_hash(user_id), "at": int(time.time()), "version": version}
            events = connection.execute(delete(EVENTS).where(EVENTS.c.user_id == user_id)).rowcount
            slates = connection.execute(delete(SLATES).where(SLATES.c.user_id == user_id)).rowcount
            connection.execute(insert.on_conflict_do_update(index_elements=["user_hash"], set_=changed), [row])
        return int(events), int(slates)

    def forgotten_since(self, version: int) -> frozenset[str]:
        """Return the hashes of the users that were forgotten after the counter had this value."""
        query = select(FORGOTTEN.c.user_hash).where(FORGOTTEN.c.version > version)
        with self._engine.connect() as connection:
            return frozenset(connection.execute(query).scalars())

    def expire(self, before: int) -> int:
        """Delete events older than a moment and return how many."""
        with self._engine.begin() as connection:
            return int(connection.execute(delete(EVENTS).where(EVENTS.c.timestamp < before)).rowcount)

    def _add(self, connection: Connection, events: Sequence[StoredEvent]) -> int:
        now = time.time_ns()
        rows = [
            {
                "event_id": one.event_id,
                "user_id": one.user_id,
                "item_id": one.item_id,
                "event_type": one.event_type,
                "timestamp": one.timestamp,
                "request_id": one.request_id,
                "received_at": now + order,
                "weight": one.weight,
            }
            for order, one in enumerate(events)
        ]
        return len(connection.execute(self._insert_new, rows).all())

    def _add_unknown(self, connection: Connection, events: Sequence[StoredEvent], began: int) -> int:
        """Store what was not there before the log began to be stored."""
        users = sorted({event.user_id for event in events})
        forgotten = forgotten_at(connection, users)
        known: set[tuple[str, str, int]] = set()
        for start in range(0, len(users), 500):
            part = users[start : start + 500]
            have = select(EVENTS.c.user_id, EVENTS.c.item_id, EVENTS.c.timestamp).where(
                EVENTS.c.user_id.in_(part), EVENTS.c.received_at < began
            )
            known |= {(user, item, int(at)) for user, item, at in connection.execute(have)}
        fresh = [
            event
            for event in events
            if (event.user_id, event.item_id, event.timestamp) not in known
            and event.timestamp > forgotten.get(event.user_id, -1)
        ]
        return self._add(connection, fresh) if fresh else 0
