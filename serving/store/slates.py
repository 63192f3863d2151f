"""Exposures in SQL: what each answer showed, by which policy, with which propensities."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine

from serving.store import counters
from serving.store.counters import hold_counter
from serving.store.tables import SLATES
from serving.store.users import forgotten_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """What one answer showed, best first.

    ``model_version`` is None where no model ranked. A propensity is the probability that the policy puts the item in
    its place given the items before it; None where it is not known. ``slate_propensity`` is their product.
    """

    request_id: str
    user_id: str | None
    at: int
    model_version: str | None
    policy: str
    strategy: str
    degraded: str | None
    item_ids: Sequence[str]
    scores: Sequence[float]
    propensities: Sequence[float | None]
    slate_propensity: float | None
    surface: str | None = None
    device: str | None = None
    arm: str | None = None


class SlateStore:
    """Exposures behind an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._insert = dialect.insert(SLATES).on_conflict_do_nothing()

    def add(self, exposures: Sequence[Exposure]) -> None:
        """Store what answers showed, all in one transaction; not what a user saw before they were forgotten.

        Another server may have forgotten the user while these waited to be written.
        """
        rows = [
            {
                "request_id": one.request_id,
                "user_id": one.user_id,
                "at": one.at,
                "model_version": one.model_version,
                "policy": one.policy,
                "strategy": one.strategy,
                "degraded": one.degraded,
                "surface": one.surface,
                "device": one.device,
                "arm": one.arm,
                "slate_propensity": one.slate_propensity,
                "item_ids": json.dumps(list(one.item_ids)),
                "scores": json.dumps(list(one.scores)),
                "propensities": json.dumps(list(one.propensities)),
            }
            for one in exposures
        ]
        if rows:
            with self._engine.begin() as connection:
                hold_counter(connection, counters.FORGOTTEN)
                connection.execute(self._insert, rows)
                forgotten = forgotten_at(connection, sorted({one.user_id for one in exposures if one.user_id}))
                for user_id, at in forgotten.items():
                    connection.execute(delete(SLATES).where(SLATES.c.user_id == user_id, SLATES.c.at <= at))

    def get(self, request_id: str) -> Exposure | None:
        """Return what a request showed, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(select(SLATES).where(SLATES.c.request_id == request_id)).first()
        return None if row is None else _exposure(row)

    def every(self) -> Iterator[Exposure]:
        """Yield all exposures in time order."""
        query = select(SLATES).order_by(SLATES.c.at, SLATES.c.request_id)
        with self._engine.connect().execution_options(yield_per=1000) as connection:
            for row in connection.execute(query):
                yield _exposure(row)

    def expire(self, before: int) -> int:
        """Delete exposures older than a moment and return how many."""
        with self._engine.begin() as connection:
            return int(connection.execute(delete(SLATES).where(SLATES.c.at < before)).rowcount)


def _exposure(row: Row[Any]) -> Exposure:
    values = dict(row._mapping)
    for name in ("item_ids", "scores", "propensities"):
        values[name] = json.loads(values[name])
    return Exposure(**values)
