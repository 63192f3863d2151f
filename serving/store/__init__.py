"""The store: events, exposures, run-time items and rules in SQL, on SQLite or PostgreSQL."""

from dataclasses import dataclass

from sqlalchemy.engine import URL, Engine

from serving.store.changes import ChangeStore
from serving.store.engine import open_engine
from serving.store.events import EventStore
from serving.store.slates import SlateStore


@dataclass(frozen=True, kw_only=True)
class Store:
    """All that is kept, behind one engine."""

    engine: Engine
    events: EventStore
    slates: SlateStore
    changes: ChangeStore

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def open_store(url: URL | str, *, write_seconds: float = 10.0) -> Store:
    """Open the store of a URL; its tables are made or brought up to date.

    Raises:
        StoreError: it cannot be reached or written.
    """
    engine = open_engine(url, write_seconds=write_seconds)
    return Store(engine=engine, events=EventStore(engine), slates=SlateStore(engine), changes=ChangeStore(engine))
