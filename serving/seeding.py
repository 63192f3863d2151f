"""Copying a run's own log into the store: once, by content hash, before the first request."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import URL

from recsys.core.artifacts import hash_file, hash_value
from recsys.core.telemetry import LOG
from recsys.data.prepare import EVENTS, ITEMS, USERS, Prepared, load_prepared
from serving.store import Store, open_store
from serving.store.events import StoredEvent

EVENT_TYPE = "log"


def seed_store(run: Path, url: URL) -> None:
    """Make the tables of a store and put a run's log into it: once, before several servers open it.

    What is wrong with either ends the start in one line then.

    Raises:
        StoreError: the store cannot be reached or written.
    """
    store = open_store(url)
    try:
        seed_log(run, store)
    finally:
        store.close()


def seed_log(run: Path, store: Store) -> int:
    """Put the log that a run was trained on into the store unless it was put there before; return the new events.

    A run folder without its data (a bundle that was copied alone) seeds nothing.
    """
    folder = run / "data"
    paths = [folder / name for name in (EVENTS, ITEMS, USERS)]
    if not all(path.is_file() for path in paths):
        LOG.warning("%s holds no training log; users are known from the events they send", run)
        return 0
    content = hash_value([hash_file(path) for path in paths])
    if store.events.seeded(content):
        return 0
    added = store.events.seed(content, _events(load_prepared(folder), content[:12]))
    LOG.info("put %d events of the training log into the store", added)
    return added


def _events(prepared: Prepared, content: str) -> Iterator[StoredEvent]:
    """Yield the log's events, each user's in time order, with ids that repeat when the same log is read again."""
    log = prepared.log
    item_ids = [str(item_id) for item_id in prepared.items["item_id"].to_pylist()]
    items, times, offsets = log.items_E.tolist(), log.timestamps_E.tolist(), log.offsets_U1.tolist()
    for user, user_id in enumerate(prepared.user_ids):
        for place in range(offsets[user], offsets[user + 1]):
            yield StoredEvent(
                event_id=f"log:{content}:{place}",
                user_id=str(user_id),
                item_id=item_ids[items[place]],
                event_type=EVENT_TYPE,
                timestamp=times[place],
            )
