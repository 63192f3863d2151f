"""The counters of the store: one a kind of change, raised inside the change's own transaction.

The counter's row is locked until the change is committed, so whoever has seen counter value v has seen all changes up
to v.
"""

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from serving.store.tables import COUNTERS

ITEMS, RULES, FORGOTTEN = "items", "rules", "forgotten"


def raise_counter(connection: Connection, name: str) -> int:
    """Raise a counter and return its new value; its row is locked until the transaction ends."""
    connection.execute(update(COUNTERS).where(COUNTERS.c.name == name).values(value=COUNTERS.c.value + 1))
    return int(connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == name)).scalar_one())


def hold_counter(connection: Connection, name: str) -> None:
    """Keep a counter from being raised until the transaction ends; on SQLite the first write does that."""
    connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == name).with_for_update(read=True))
