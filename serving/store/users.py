"""The record of forgotten users: a hash of the id, and when."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.engine import Connection

from serving.store.tables import FORGOTTEN

_PART = 500
"""Users a query; SQLite bounds the values of one."""


def user_hash(user_id: str) -> str:
    """Return the hash under which a forgotten user is kept, so that the id itself is not."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()


def forgotten_at(connection: Connection, users: Sequence[str]) -> dict[str, int]:
    """Return when those of the users who were forgotten were, in unix seconds."""
    found: dict[str, int] = {}
    for start in range(0, len(users), _PART):
        by_hash = {user_hash(user): user for user in users[start : start + _PART]}
        query = select(FORGOTTEN.c.user_hash, FORGOTTEN.c.at).where(FORGOTTEN.c.user_hash.in_(by_hash))
        found |= {by_hash[hash_]: int(at) for hash_, at in connection.execute(query)}
    return found
