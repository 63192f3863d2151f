"""Casts raw tables to the contract's types, and counts by cause every row that cannot be kept.

Axes: E event, N item.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.columns import decode, item_columns
from recsys.data.ids import NULL, NULL_WORDS, IdColumn, stored_ids
from recsys.data.numbers import floats, read_numbers
from recsys.data.options import ImportOptions
from recsys.data.preferences import event_types_note
from recsys.data.repeats import repeated
from recsys.data.times import Times, read_times

DUPLICATE = "duplicate"
NO_POSITION = "position not a number"
Rows = TypeVar("Rows", pa.Table, pa.ChunkedArray, pa.Array)


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """A table in the contract's types, how many rows were left out by cause, and what a person should know."""

    table: pa.Table
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()


def check_columns(table: pa.Table, required: tuple[str, ...], where: str) -> None:
    """Refuse a table with a column name twice, or without a required column."""
    names = table.column_names
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(f"{where}: column names must differ, got {twice[0]!r} more than once; rename one")
    for name in required:
        if name not in names:
            raise DataError(
                f"{where}: column {name!r} must be there, got columns {names[:20]}; add it, or name the one that is "
                f"meant by --map {name}=ITS_NAME"
            )


def clean_interactions(table: pa.Table, where: str, options: ImportOptions) -> Cleaned:
    """Return events with ids, unix seconds and a position, without rows that lack one or repeat another.

    Two events are the same when user, item, time with its fraction of a second, and where given position and type are.
    """
    check_columns(table, schema.REQUIRED_INTERACTION_COLUMNS, where)
    columns = {name: decode(table[name]) for name in table.column_names}
    users = stored_ids(columns[schema.USER], f"{where}: column 'user_id'")
    items = stored_ids(columns[schema.ITEM], f"{where}: column 'item_id'")
    times = read_times(columns[schema.TIMESTAMP], "timestamp", unit=options.time_unit, now=options.now)
    masks = {**_id_masks(users, schema.USER), **_id_masks(items, schema.ITEM), **times.masks}
    has_position = schema.POSITION in columns
    order_E = np.arange(table.num_rows, dtype=np.int64)
    if has_position:
        numbers = read_numbers(columns[schema.POSITION], f"{where}: column 'position'")
        order_E, masks[NO_POSITION] = numbers.whole_E, ~numbers.valid_E
    columns[schema.USER], columns[schema.ITEM] = users.texts, items.texts
    columns[schema.TIMESTAMP] = pa.array(times.seconds_E)
    columns[schema.POSITION] = pa.array(_positions(times, order_E))
    notes = times.notes + _values(columns, where)
    kept_E, counts = _first_causes(masks, table.num_rows)
    key = [columns[schema.USER], columns[schema.ITEM], columns[schema.TIMESTAMP]]
    key += [pa.array(times.nanoseconds_E)] if times.nanoseconds_E.any() else []
    key += [pa.array(order_E)] if has_position else []
    key += [columns[schema.EVENT_TYPE]] if schema.EVENT_TYPE in columns else []
    repeated_E = repeated([_selected(column, kept_E) for column in key])
    counts[DUPLICATE] = int(repeated_E.sum())
    kept_E[np.flatnonzero(kept_E)[repeated_E]] = False
    return Cleaned(table=_selected(pa.table(columns), kept_E), counts=counts, notes=notes)


def clean_items(table: pa.Table, where: str) -> Cleaned:
    """Return items with ids and the contract's columns in their types; of rows with one id the first counts."""
    check_columns(table, schema.REQUIRED_ITEM_COLUMNS, where)
    columns = {name: decode(table[name]) for name in table.column_names}
    ids = stored_ids(columns[schema.ITEM], f"{where}: column 'item_id'")
    columns[schema.ITEM] = ids.texts
    clean = pa.table(item_columns(columns, where))
    kept_N, counts = _first_causes(_id_masks(ids, schema.ITEM), table.num_rows)
    repeated_N = repeated([clean[schema.ITEM].filter(pa.array(kept_N))])
    counts["duplicate item_id"] = int(repeated_N.sum())
    kept_N[np.flatnonzero(kept_N)[repeated_N]] = False
    return Cleaned(
        table=clean.filter(pa.array(kept_N)),
        counts={f"{cause} in items": n for cause, n in counts.items()},
        notes=_attributes(clean.schema),
    )


def _attributes(columns: pa.Schema) -> tuple[str, ...]:
    """Say which columns of the items are kept and not learned from: neither text, nor lists of words, nor vectors."""
    used = {schema.ITEM, schema.TITLE, schema.BRAND, schema.CATEGORIES, schema.TEXT, schema.YEAR}
    others = [
        column.name
        for column in columns
        if not (
            column.name in used
            or column.name.startswith(schema.VECTOR_PREFIX)
            or (pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type))
        )
    ]
    shown = ", ".join(map(repr, others[:20])) + (", ..." if len(others) > 20 else "")
    return (f"columns of the items that are kept and not learned from: {shown}",) if others else ()


def _selected(rows: Rows, kept_E: BoolArray) -> Rows:
    """Return the rows that are kept, without a copy where all are."""
    return rows if kept_E.all() else rows.filter(pa.array(kept_E))


def _id_masks(ids: IdColumn, name: str) -> dict[str, BoolArray]:
    return {f"null {name}" if cause == NULL else f"{name} {cause}": mask_E for cause, mask_E in ids.masks.items()}


def _positions(times: Times, order_E: IntArray) -> IntArray:
    """Return the order among events of one second: by the fraction of the second, then as given."""
    if not times.nanoseconds_E.any():
        return order_E
    by_E = np.lexsort((order_E, times.nanoseconds_E, times.seconds_E))
    position_E = np.empty_like(order_E)
    position_E[by_E] = np.arange(len(by_E))
    return position_E


def _first_causes(masks: Mapping[str, BoolArray], rows: int) -> tuple[BoolArray, dict[str, int]]:
    """Return which rows no mask holds against, and how many each does; a row counts for its first cause."""
    kept_E = np.ones(rows, dtype=np.bool_)
    counts: dict[str, int] = {}
    for cause, mask_E in masks.items():
        counts[cause] = int((mask_E & kept_E).sum())
        kept_E &= ~mask_E
    return kept_E, counts


def _values(columns: dict[str, pa.ChunkedArray], where: str) -> tuple[str, ...]:
    """Bring the optional columns into their types in place; return what became of values that do not fit."""
    notes: list[str] = []
    for name in (schema.RATING, schema.WEIGHT):
        if name in columns:
            raw = columns[name]
            raw, with_commas = _with_points(raw)
            notes += [f"{name} is read with decimal commas: {with_commas!r}"] if with_commas else []
            columns[name] = floats(raw, f"{where}: column {name!r}")
            lost_E = pc.and_(_says_something(raw), pc.is_null(columns[name]))
            if count := int(pc.sum(lost_E).as_py() or 0):
                example = raw.filter(lost_E)[0].as_py()
                notes.append(
                    f"{count:,} values of {name} are no numbers, e.g. {example!r}; the events stay without one"
                )
    if schema.EVENT_TYPE in columns:
        kind = columns[schema.EVENT_TYPE].type
        if pa.types.is_nested(kind):
            raise DataError(f"{where}: column 'event_type' must hold text, got {kind}; convert it")
        columns[schema.EVENT_TYPE] = pc.utf8_trim_whitespace(columns[schema.EVENT_TYPE].cast(pa.string()))
        notes.append(event_types_note(columns[schema.EVENT_TYPE]))
    known = {*schema.REQUIRED_INTERACTION_COLUMNS, *schema.OPTIONAL_INTERACTION_COLUMNS}
    if others := [name for name in columns if name not in known]:
        notes.append(f"columns of the interactions that nothing uses: {', '.join(map(repr, others[:20]))}")
    return tuple(notes)


def _with_points(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """Return numbers that are written with a decimal comma with a point, and an example; empty where there is none.

    A comma with three digits behind it may part thousands, so such values stay as they are.
    """
    if not pa.types.is_string(column.type):
        return column, ""
    meant = pc.match_substring_regex(column, r"^\s*[+-]?[0-9]+,([0-9]{1,2}|[0-9]{4,})\s*$")
    found = column.filter(meant)
    if not len(found):
        return column, ""
    return pc.if_else(meant, pc.replace_substring(column, ",", "."), column), found[0].as_py().strip()


def _says_something(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which values are there and are not a word for nothing."""
    if not pa.types.is_string(column.type):
        return pc.is_valid(column)
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.and_(pc.is_valid(column), pc.invert(pc.is_in(trimmed, value_set=pa.array(sorted(NULL_WORDS)))))
