"""Owns a release whose items changed after training: new rows at its end, changed columns, what is not for sale."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from recsys.core.errors import RecsysError
from recsys.core.telemetry import LOG
from serving.items import FOREVER, Facts, item_table
from serving.release import LoadedBundle, Release, with_model
from serving.store.changes import StoredItem


@runtime_checkable
class Growing(Protocol):
    """A bundle that can encode new items."""

    def with_items(self, items: pa.Table) -> LoadedBundle:
        """Return a bundle whose catalogue has these items at its end, encoded by the frozen tokenizer."""
        ...


def grown(
    base: Release, put: Sequence[StoredItem], first_seen: Mapping[str, int], *, before: Release | None = None
) -> Release:
    """Return a release with the items put at run time; the base where there are none and nothing is dated.

    Args:
        base: as loaded from its bundle.
        put: items put at run time; an item of the bundle keeps its codes and gets the new columns.
        first_seen: unix seconds of items' first events.
        before: the release that answers now; its model is taken where it has the same new items.
    """
    if not put and not first_seen:
        return base
    known = {str(item_id): row for row, item_id in enumerate(base.items.item_ids)}
    fresh = [item for item in put if item.item_id not in known]
    model = base.model
    if fresh and model is not None:
        model, fresh = _encoded(base, fresh, before)
    columns = _columns(base, [item for item in put if item.item_id in known], fresh, known)
    rows = {**known, **{item.item_id: len(known) + place for place, item in enumerate(fresh)}}
    table = item_table(columns, _facts(base, put, rows, first_seen))
    bare = Release(
        version=base.version,
        folder=base.folder,
        items=table,
        facets=base.facets,
        model=None,
        state=base.state,
        reason=base.reason,
        trained=base.trained,
    )
    return bare if model is None else with_model(bare, model)


def _encoded(
    base: Release, fresh: list[StoredItem], before: Release | None
) -> tuple[LoadedBundle | None, list[StoredItem]]:
    """Return the model with new items, and those it could encode."""
    ids = [item.item_id for item in fresh]
    if before is not None and before.model is not None and before.version == base.version:
        tail = [str(id_) for id_ in before.model.catalogue.item_ids[len(base.items) :]]
        if tail == ids and _same_content(before, fresh):
            return before.model, fresh
    if not isinstance(base.model, Growing):
        LOG.error("%d items put at run time are left out: this bundle holds no tokenizer", len(fresh))
        return base.model, []
    try:
        return base.model.with_items(_table(base, fresh)), fresh
    except RecsysError as error:
        LOG.error("%d items put at run time are left out: %s", len(fresh), error)
        return base.model, []


def _same_content(before: Release, fresh: Sequence[StoredItem]) -> bool:
    """Tell whether a release encoded these items from the same words."""
    table = before.items
    for item in fresh:
        row = table.index_of(item.item_id)
        for name, value in item.body.items():
            values = table.values(name)
            if row is None or values is None or values[row] != value:
                return False
    return True


def _columns(
    base: Release, changed: Sequence[StoredItem], fresh: Sequence[StoredItem], known: Mapping[str, int]
) -> pa.Table:
    """Return the base's columns with changed values in place and new items at the end; new names are new columns."""
    old = base.items.columns
    names = dict.fromkeys([*old.column_names, *(name for item in (*changed, *fresh) for name in item.body)])
    ids = [item.item_id for item in fresh]
    columns = {}
    for name in names:
        tail = ids if name == "item_id" else [item.body.get(name) for item in fresh]
        columns[name] = _column(base, name, changed, tail, known)
    return pa.table(columns)


def _column(
    base: Release, name: str, changed: Sequence[StoredItem], tail: Sequence[Any], known: Mapping[str, int]
) -> pa.ChunkedArray:
    old = base.items.columns
    if name in old.column_names and not any(name in item.body for item in changed):
        kind = old[name].type
        return pa.chunked_array([*old[name].chunks, _array(tail, kind)], type=kind)
    values = list(base.items.values(name) or [None] * len(base.items))
    for item in changed:
        if name in item.body:
            values[known[item.item_id]] = item.body[name]
    return pa.chunked_array([_array([*values, *tail], old[name].type if name in old.column_names else None)])


def _array(values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    """Return values as a column; where they are not all of its type, those that are not are null."""
    values = [_cast(value, kind) for value in values]
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _cast(value: Any, kind: pa.DataType | None) -> Any:
    if value is None or kind is None:
        return value
    if pa.types.is_integer(kind) and isinstance(value, str):
        return int(value)  # ids are text at the door
    return value if fits(value, kind) else None


def fits(value: Any, kind: pa.DataType) -> bool:
    """Tell whether a value can stand in a column of this type."""
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return False
    return True


def _facts(base: Release, put: Sequence[StoredItem], rows: Mapping[str, int], first_seen: Mapping[str, int]) -> Facts:
    size, old = len(rows), len(base.items)
    counts_N = np.zeros(size, np.int64)
    counts_N[:old] = base.items.counts_N
    available_N = np.ones(size, np.bool_)
    starts_N, ends_N, added_N = np.zeros(size, np.int64), np.full(size, FOREVER), np.zeros(size, np.int64)
    for item_id, at in first_seen.items():
        if item_id in rows:
            added_N[rows[item_id]] = at
    for item in put:
        if item.item_id not in rows:
            continue
        row = rows[item.item_id]
        available_N[row] = item.available
        starts_N[row] = item.starts_at or 0
        ends_N[row] = FOREVER if item.ends_at is None else item.ends_at
        if row >= old:
            added_N[row] = item.added_at
    return Facts(counts_N=counts_N, available_N=available_N, starts_N=starts_N, ends_N=ends_N, added_N=added_N)


def _table(base: Release, fresh: Sequence[StoredItem]) -> pa.Table:
    """Return new items as the encoder reads them: the id and the columns that the bundle's own items have."""
    old = base.items.columns
    columns = {"item_id": _array([item.item_id for item in fresh], old["item_id"].type)}
    for name in old.column_names:
        if name != "item_id":
            columns[name] = _array([item.body.get(name) for item in fresh], old[name].type)
    return pa.table(columns)
