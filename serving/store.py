"""Owns events and exposures in SQL: durable before the answer, idempotent by event id."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine

_METADATA = MetaData()

EVENTS = Table(
    "events",
    _METADATA,
    Column("event_id", String(256), primary_key=True),
    Column("user_id", String(256), nullable=False),
    Column("item_id", String(256), nullable=False),
    Column("event_type", String(256), nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("request_id", String(256)),
    Column("received_at", BigInteger, nullable=False, comment="nanoseconds; orders events of one second"),
    Index("events_by_user", "user_id", "timestamp"),
)

EXPOSURES = Table(
    "exposures",
    _METADATA,
    Column("request_id", String(256), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("user_id", String(256)),
    Column("item_id", String(256), nullable=False),
    Column("score", Float, nullable=False),
    Column("model_version", String(256), nullable=False),
    Column("at", BigInteger, nullable=False),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEvent:
    """One event as it is kept; ids are text here, whatever they are in the catalogue."""

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    timestamp: int
    request_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """The items shown for one request, best first."""

    request_id: str
    user_id: str | None
    item_ids: Sequence[str]
    scores: Sequence[float]
    model_version: str


def default_url(run: Path) -> str:
    """Return the URL of a run's own SQLite store and make its folder."""
    folder = run / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'events.db'}"


class Store:
    """Events and exposures behind a SQLAlchemy URL (SQLite or PostgreSQL)."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        _METADATA.create_all(self._engine)

    def add_events(self, events: Sequence[StoredEvent]) -> int:
        """Store the events not stored before and return how many those were; on return they are on disk."""
        if not events:
            return 0
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
            }
            for order, one in enumerate(events)
        ]
        with self._engine.begin() as connection:
            return len(connection.execute(self._insert_new(), rows).all())

    def add_exposure(self, exposure: Exposure) -> None:
        """Store what one answer showed."""
        now = int(time.time())
        rows = [
            {
                "request_id": exposure.request_id,
                "position": position,
                "user_id": exposure.user_id,
                "item_id": item_id,
                "score": score,
                "model_version": exposure.model_version,
                "at": now,
            }
            for position, (item_id, score) in enumerate(zip(exposure.item_ids, exposure.scores, strict=True))
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(insert(EXPOSURES), rows)

    def history(self, user_id: str, limit: int) -> list[tuple[str, int]]:
        """Return the user's most recent ``limit`` events, oldest first, as (item id, timestamp)."""
        query = (
            select(EVENTS.c.item_id, EVENTS.c.timestamp)
            .where(EVENTS.c.user_id == user_id)
            .order_by(EVENTS.c.timestamp.desc(), EVENTS.c.received_at.desc())
            .limit(limit)
        )
        with self._engine.connect() as connection:
            found = connection.execute(query).all()
        return [(str(item_id), int(timestamp)) for item_id, timestamp in reversed(found)]

    def seen(self, user_id: str) -> list[str]:
        """Return every item the user has an event with, however long ago."""
        query = select(EVENTS.c.item_id).where(EVENTS.c.user_id == user_id).distinct()
        with self._engine.connect() as connection:
            return [str(item_id) for item_id in connection.execute(query).scalars()]

    def exposures(self, request_id: str) -> list[tuple[str, int]]:
        """Return what a request showed as (item id, position), in order."""
        query = select(EXPOSURES.c.item_id, EXPOSURES.c.position).where(EXPOSURES.c.request_id == request_id)
        with self._engine.connect() as connection:
            found = connection.execute(query.order_by(EXPOSURES.c.position)).all()
        return [(str(item_id), int(position)) for item_id, position in found]

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _insert_new(self) -> Any:
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(EVENTS).on_conflict_do_nothing().returning(EVENTS.c.event_id)
        return sqlite.insert(EVENTS).on_conflict_do_nothing().returning(EVENTS.c.event_id)


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine
