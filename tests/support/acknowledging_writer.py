"""Stores events in a SQLite store and says after each group, by a file beside it, that it is stored.

``python -m tests.support.acknowledging_writer FOLDER GROUPS [SYNCHRONOUS]``; the last is for a writer that is wrong.
"""

import os
import sys
from pathlib import Path

from sqlalchemy import event

from serving.store import open_store
from serving.store.events import StoredEvent

DATABASE, SAID = "events.db", "acknowledged"


def group_ids(number: int) -> list[str]:
    """Return the event ids of a group: one to five of them."""
    return [f"{number}-{place}" for place in range(1 + number % 5)]


def main(folder: Path, groups: int, synchronous: str | None) -> None:
    """Store groups of events and acknowledge each."""
    store = open_store(f"sqlite:///{folder / DATABASE}")
    if synchronous is not None:

        @event.listens_for(store.engine, "checkout")
        def _weaker(connection: object, _record: object, _proxy: object) -> None:
            connection.execute(f"PRAGMA synchronous={synchronous}")  # type: ignore[attr-defined]

    said = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in range(groups):
        ids = group_ids(number)
        store.events.add(
            [
                StoredEvent(event_id=id_, user_id="u" * 300, item_id=id_, event_type="view", timestamp=number)
                for id_ in ids
            ]
        )
        os.write(said, f"{number}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
