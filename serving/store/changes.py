"""Changes at run time that every server must see: items, rules, and which model is active."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine

from serving.store import counters
from serving.store.counters import raise_counter
from serving.store.tables import COUNTERS, ITEMS, RULES, SETTINGS

ACTIVE_MODEL = "active_model"


@dataclass(frozen=True, kw_only=True)
class StoredItem:
    """An item that was put or taken away at run time; ``body`` holds its columns in the data contract."""

    item_id: str
    body: Mapping[str, Any]
    available: bool = True
    starts_at: int | None = None
    ends_at: int | None = None
    added_at: int = 0


@dataclass(frozen=True, kw_only=True)
class StoredRule:
    """A version of a rule."""

    name: str
    version: int
    at: int
    body: Mapping[str, Any]


class ChangeStore:
    """Run-time items, rules and settings behind an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dialect = postgresql if engine.dialect.name == "postgresql" else sqlite

    def counters(self) -> dict[str, int]:
        """Return the counter of each kind."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(COUNTERS.c.name, COUNTERS.c.value)).all()
        return {name: int(value) for name, value in rows}

    def put_items(self, items: Sequence[StoredItem]) -> int:
        """Store items, new or changed, and return the counter; on return they are on disk."""
        now = int(time.time())
        with self._engine.begin() as connection:
            version = raise_counter(connection, counters.ITEMS)
            rows = [
                {
                    "item_id": item.item_id,
                    "version": version,
                    "added_at": item.added_at or now,
                    "available": item.available,
                    "starts_at": item.starts_at,
                    "ends_at": item.ends_at,
                    "body": json.dumps(dict(item.body)),
                }
                for item in items
            ]
            insert = self._dialect.insert(ITEMS)
            changed = {name: insert.excluded[name] for name in ("version", "available", "starts_at", "ends_at", "body")}
            connection.execute(insert.on_conflict_do_update(index_elements=["item_id"], set_=changed), rows)
        return version

    def items(self) -> list[StoredItem]:
        """Return all items put at run time, in the order in which they first came."""
        query = select(ITEMS).order_by(ITEMS.c.added_at, ITEMS.c.item_id)
        with self._engine.connect() as connection:
            found = connection.execute(query).all()
        return [
            StoredItem(
                item_id=row.item_id,
                body=json.loads(row.body),
                available=bool(row.available),
                starts_at=row.starts_at,
                ends_at=row.ends_at,
                added_at=int(row.added_at),
            )
            for row in found
        ]

    def put_rule(self, name: str, body: Mapping[str, Any]) -> StoredRule:
        """Store the next version of a rule and return it."""
        now = int(time.time())
        with self._engine.begin() as connection:
            raise_counter(connection, counters.RULES)
            latest = connection.execute(select(func.max(RULES.c.version)).where(RULES.c.name == name)).scalar() or 0
            row = {"name": name, "version": latest + 1, "at": now, "body": json.dumps(dict(body))}
            connection.execute(RULES.insert(), [row])
        return StoredRule(name=name, version=latest + 1, at=now, body=dict(body))

    def rules(self) -> list[StoredRule]:
        """Return the latest version of every rule, by name."""
        newest = select(RULES.c.name, func.max(RULES.c.version).label("version")).group_by(RULES.c.name).subquery()
        query = (
            select(RULES)
            .join(newest, (RULES.c.name == newest.c.name) & (RULES.c.version == newest.c.version))
            .order_by(RULES.c.name)
        )
        return self._rules_of(query)

    def rule_versions(self, name: str) -> list[StoredRule]:
        """Return every version of a rule, the latest first."""
        return self._rules_of(select(RULES).where(RULES.c.name == name).order_by(RULES.c.version.desc()))

    def _rules_of(self, query: Select[Any]) -> list[StoredRule]:
        with self._engine.connect() as connection:
            found = connection.execute(query).all()
        return [
            StoredRule(name=row.name, version=int(row.version), at=int(row.at), body=json.loads(row.body))
            for row in found
        ]

    def setting(self, name: str) -> str | None:
        """Return a setting, or None."""
        with self._engine.connect() as connection:
            value = connection.execute(select(SETTINGS.c.value).where(SETTINGS.c.name == name)).scalar()
        return None if value is None else str(value)

    def set(self, name: str, value: str) -> None:
        """Store a setting."""
        insert = self._dialect.insert(SETTINGS)
        with self._engine.begin() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}),
                [{"name": name, "value": value}],
            )
