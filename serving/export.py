"""Export of the store: events, items and exposures as a folder in the data contract."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select

from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.impressions import clean_impressions
from recsys.data.options import ImportOptions
from recsys.data.table import Dataset, build_dataset, require_target, write_dataset
from serving.store import Store, open_store
from serving.store.changes import StoredItem
from serving.store.engine import store_url
from serving.store.tables import EVENTS

_OWN = ("model_version", "strategy", "arm", "device")
"""Columns of impressions beside those of the contract."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """How many rows of each kind were written."""

    events: int
    items: int
    exposures: int


def export_store(url: str, folder: Path, *, run: Path | None = None) -> Exported:
    """Write a store's events, run-time items and exposures into a folder in the data contract.

    Args:
        url: SQLAlchemy URL of the store.
        folder: where ``interactions.parquet``, ``items.parquet`` and ``impressions.parquet`` go.
        run: a run whose bundle holds the items that were there at training; without it those have an id only.

    Raises:
        DataError: the store holds no event, or the folder holds data files of another program.
        StoreError: the store cannot be reached.
    """
    require_target(folder)
    store = open_store(store_url(folder, url, os.environ))
    try:
        dataset = _dataset(store, url_name(store), run)
    finally:
        store.close()
    write_dataset(dataset, folder)
    shown = 0 if dataset.impressions is None else dataset.impressions.num_rows
    return Exported(events=dataset.interactions.num_rows, items=dataset.items.num_rows, exposures=shown)


def url_name(store: Store) -> str:
    """Return the store's URL without its password."""
    return store.engine.url.render_as_string(hide_password=True)


def _dataset(store: Store, where: str, run: Path | None) -> Dataset:
    events = _events(store)
    if not events.num_rows:
        raise DataError(f"{where} must hold at least one event, got none; send events, or serve a run with its log")
    put = store.changes.items()
    items = _items(put, None if run is None else pq.ParquetFile(run / "bundle" / "items.parquet").read())
    options = ImportOptions(time_unit="s", allow_unmatched=True)
    found = build_dataset(events, items, where=where, options=options)
    return Dataset(
        interactions=found.interactions,
        items=found.items,
        bad_rows=found.bad_rows,
        notes=found.notes,
        impressions=_impressions(store, where),
    )


def _events(store: Store) -> pa.Table:
    names = {"user_id": pa.string(), "item_id": pa.string(), "timestamp": pa.int64()}
    names |= {"event_type": pa.string(), "weight": pa.float64()}
    query = select(*(EVENTS.c[name] for name in names)).order_by(EVENTS.c.timestamp, EVENTS.c.received_at)
    batches: list[pa.RecordBatch] = []
    fields = pa.schema(list(names.items()))
    with store.engine.connect().execution_options(yield_per=50_000) as connection:
        for part in connection.execute(query).partitions():
            columns = zip(*part, strict=True)
            arrays = [pa.array(values, kind) for values, kind in zip(columns, names.values(), strict=True)]
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=fields))
    return pa.Table.from_batches(batches, schema=fields)


def _items(put: Sequence[StoredItem], base: pa.Table | None) -> pa.Table | None:
    """Return the items of a bundle with what was put in their place or beside them; None where nothing is known."""
    rows: dict[str, dict[str, Any]] = {}
    if base is not None:
        rows = {str(row["item_id"]): {**row, "item_id": str(row["item_id"])} for row in base.to_pylist()}
    for item in put:
        rows[item.item_id] = {**rows.get(item.item_id, {}), **item.body, "item_id": item.item_id}
    if not rows:
        return None
    names = dict.fromkeys(["item_id", *(name for row in rows.values() for name in row)])
    return pa.table({name: _column([row.get(name) for row in rows.values()]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _impressions(store: Store, where: str) -> pa.Table | None:
    """Return a row for every place of every slate that was shown; its reward is the weight of the events it led to."""
    rewards = _rewards(store)
    columns: dict[str, list[Any]] = {
        name: [] for name in (*schema.IMPRESSION_COLUMNS, *schema.OPTIONAL_IMPRESSION_COLUMNS, *_OWN)
    }
    for one in store.slates.every():
        for place, (item_id, propensity) in enumerate(zip(one.item_ids, one.propensities, strict=True)):
            row = {
                schema.REQUEST: one.request_id,
                schema.USER: one.user_id,
                schema.ITEM: item_id,
                schema.POSITION: place,
                schema.TIMESTAMP: one.at,
                schema.REWARD: rewards[(one.request_id, item_id)],
                schema.PROPENSITY: propensity,
                schema.SLATE_PROPENSITY: one.slate_propensity,
                schema.POLICY: one.policy,
                schema.CONTEXT: one.surface,
                "model_version": one.model_version,
                "strategy": one.strategy,
                "arm": one.arm,
                "device": one.device,
            }
            for name, value in row.items():
                columns[name].append(value)
    if not columns[schema.REQUEST]:
        return None
    kinds = {schema.POSITION: pa.int64(), schema.TIMESTAMP: pa.int64()}
    kinds |= {name: pa.float64() for name in (schema.REWARD, schema.PROPENSITY, schema.SLATE_PROPENSITY)}
    table = pa.table({name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()})
    return clean_impressions(table, f"{where} (exposures)")


def _rewards(store: Store) -> Counter[tuple[str, str]]:
    """Return the weight of the events that name the request that led to them, by request and item."""
    found: Counter[tuple[str, str]] = Counter()
    query = select(EVENTS.c.request_id, EVENTS.c.item_id, EVENTS.c.weight).where(EVENTS.c.request_id.is_not(None))
    with store.engine.connect().execution_options(yield_per=50_000) as connection:
        for request_id, item_id, weight in connection.execute(query):
            found[(request_id, item_id)] += weight
    return found
