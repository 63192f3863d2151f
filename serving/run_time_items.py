"""A release whose items changed after training: new rows at its end, changed columns, what is not for sale."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from recsys.core.errors import RecsysError
from recsys.core.telemetry import LOG
from serving.items import FOREVER, INDEXED, Facts, ItemTable, item_table, plain_facts
from serving.release import Bodies, LoadedBundle, Release, with_model
from serving.store.changes import StoredItem


@runtime_checkable
class SupportsNewItems(Protocol):
    """A bundle that can encode new items."""

    def with_items(self, items: pa.Table) -> LoadedBundle:
        """Return a bundle whose catalogue has these items at its end, encoded by the frozen tokenizer."""
        ...


def with_run_time_items(
    base: Release, put: Sequence[StoredItem], first_seen: Mapping[str, int], *, before: Release | None = None
) -> Release:
    """Return a release with the items put at run time; the base where there are none and nothing is dated.

    Args:
        base: as loaded from its bundle.
        put: items put at run time; an item of the bundle keeps its codes and gets the new columns.
        first_seen: unix seconds of items' first events.
        before: what this returned for the base before; what is made of columns is taken from it where they are equal.
    """
    if not put and not first_seen:
        return base
    bodies = {item.item_id: item.body for item in put if item.body or base.items.row_of_text(item.item_id) is None}
    if not bodies:
        same = base
    elif before is not None and before.bodies == bodies and (before.model is None) == (base.model is None):
        same = before
    else:
        same = _with_bodies(base, bodies, before)
    return replace(
        base,
        items=same.items.with_facts(_facts(base, same.items, put, first_seen)),
        facets=same.facets,
        model=same.model,
        has_fast_ranker=same.has_fast_ranker,
        bodies=bodies,
    )


def _with_bodies(base: Release, bodies: Bodies, before: Release | None) -> Release:
    """Return a release with changed columns of its items, and new items behind them where its model encodes these."""
    known = {item_id: body for item_id, body in bodies.items() if base.items.row_of_text(item_id) is not None}
    fresh: Bodies = {item_id: body for item_id, body in bodies.items() if item_id not in known}
    model = base.model
    if fresh and model is not None:
        model, fresh = _encoded(base, model, fresh, before)
    columns, changed = _columns(base, known, fresh), {name for body in known.values() for name in body}
    if fresh or not changed.isdisjoint(INDEXED):
        items = item_table(columns, np.concatenate([base.items.counts_N, np.zeros(len(fresh), np.int64)]))
    else:
        items = base.items.with_columns(columns, changed=changed)
    release = replace(base, items=items)
    return release if model is None or model is base.model else with_model(release, model)


def _encoded(base: Release, model: LoadedBundle, fresh: Bodies, before: Release | None) -> tuple[LoadedBundle, Bodies]:
    """Return the model with new items, and those it could encode."""
    if before is not None and before.model is not None:
        added = [str(item_id) for item_id in before.items.item_ids[before.trained :]]
        if added == list(fresh) and all(before.bodies[item_id] == fresh[item_id] for item_id in added):
            return before.model, fresh
    if not isinstance(model, SupportsNewItems):
        LOG.error("%d items put at run time are left out: this bundle holds no tokenizer", len(fresh))
        return model, {}
    try:
        return model.with_items(_table(base, fresh)), fresh
    except RecsysError as error:
        LOG.error("%d items put at run time are left out: %s", len(fresh), error)
        return model, {}


def _columns(base: Release, known: Bodies, fresh: Bodies) -> pa.Table:
    """Return the base's columns with changed values in place and new items at the end; new names are new columns."""
    named = (name for body in (*known.values(), *fresh.values()) for name in body)
    names = dict.fromkeys([*base.items.columns.column_names, *named])
    columns = {}
    for name in names:
        tail = list(fresh) if name == "item_id" else [body.get(name) for body in fresh.values()]
        columns[name] = _column(base, name, {id_: body[name] for id_, body in known.items() if name in body}, tail)
    return pa.table(columns)


def _column(base: Release, name: str, changed: Mapping[str, Any], tail: Sequence[Any]) -> pa.ChunkedArray:
    """Return one column with changed values, by item id, and the values of new items behind."""
    old = base.items.columns
    if name in old.column_names and not changed:
        kind = old[name].type
        return pa.chunked_array([*old[name].chunks, _array(tail, kind)], type=kind)
    values = list(base.items.values(name) or [None] * len(base.items))
    for item_id, value in changed.items():
        if (row := base.items.row_of_text(item_id)) is not None:
            values[row] = value
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
        return int(value)  # ids are text in requests
    return value if fits(value, kind) else None


def fits(value: Any, kind: pa.DataType) -> bool:
    """Tell whether a value can stand in a column of this type."""
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return False
    return True


def _facts(base: Release, items: ItemTable, put: Sequence[StoredItem], first_seen: Mapping[str, int]) -> Facts:
    """Return what a shop sets for the items of a table, those of the base first."""
    facts = plain_facts(len(items))
    for item_id, at in first_seen.items():
        if (row := items.row_of_text(item_id)) is not None:
            facts.added_N[row] = at
    for item in put:
        row = items.row_of_text(item.item_id)
        if row is None:
            continue
        facts.available_N[row] = item.available
        facts.starts_N[row] = item.starts_at or 0
        facts.ends_N[row] = FOREVER if item.ends_at is None else item.ends_at
        if row >= len(base.items):
            facts.added_N[row] = item.added_at
    return facts


def _table(base: Release, fresh: Bodies) -> pa.Table:
    """Return new items as the encoder reads them: the id and the columns that the bundle's own items have."""
    old = base.items.columns
    columns = {"item_id": _array(list(fresh), old["item_id"].type)}
    for name in old.column_names:
        if name != "item_id":
            columns[name] = _array([body.get(name) for body in fresh.values()], old[name].type)
    return pa.table(columns)
