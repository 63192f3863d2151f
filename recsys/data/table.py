"""Owns reading, validating and writing a folder in the data contract."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.artifacts import atomic_file
from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.columns import decode, id_column, integer_column, item_columns, number_column

_BAD_ROWS_KEY = b"recsys.bad_rows"


@dataclass(frozen=True, kw_only=True)
class BadRows:
    """How many rows were left out, by cause, e.g. ``{"null user_id": 3}``."""

    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of rows left out."""
        return sum(self.counts.values())

    def plus(self, more: Mapping[str, int]) -> "BadRows":
        """Return these counts and ``more`` added up, without causes that never happened."""
        added = Counter(self.counts)
        added.update(more)
        return BadRows(counts={cause: int(n) for cause, n in added.items() if n > 0})


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A log and its items in the data contract, cleaned, with the count of what was left out.

    ``interactions`` always has ``user_id``, ``item_id`` and, as int64, ``timestamp`` and ``position``;
    ``items`` has one row for every item of the interactions and maybe more.
    """

    interactions: pa.Table
    items: pa.Table
    bad_rows: BadRows


def read_dataset(folder: Path) -> Dataset:
    """Read ``interactions.parquet`` and, where present, ``items.parquet`` of a folder."""
    interactions = read_parquet(folder / schema.INTERACTIONS)
    items = read_parquet(folder / schema.ITEMS) if (folder / schema.ITEMS).exists() else None
    known = _stored_bad_rows(interactions, folder / schema.INTERACTIONS)
    return build_dataset(interactions, items, bad_rows=known, where=str(folder))


def require_target(folder: Path, *, source: Path | None = None) -> None:
    """Refuse a target in which writing a dataset would replace what :func:`write_dataset` did not write.

    Raises:
        DataError: the target is a file, is the source or holds it, or has a data file that another program wrote.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"the target must be a folder, got the file {folder}; choose another name")
    names = (schema.INTERACTIONS, schema.ITEMS)
    if source is not None and source.resolve() in (folder.resolve(), *((folder / name).resolve() for name in names)):
        raise DataError(f"the target must not be the source, got {folder} for both; choose another folder")
    for path in (folder / name for name in names):
        if path.exists() and not _ours(path):
            raise DataError(
                f"{folder} must be a new folder or hold a data set that recsys wrote, got {path.name} of another "
                f"program; choose another folder, or move the file away"
            )


def _ours(path: Path) -> bool:
    """Tell whether a file is Parquet with the mark of :func:`write_dataset`."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return False
    return _BAD_ROWS_KEY in metadata


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Write a dataset so that each file appears whole or not at all, interactions last.

    Raises:
        DataError: the folder holds a data file that another program wrote.
    """
    require_target(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note = json.dumps(dict(dataset.bad_rows.counts)).encode()
    write_parquet(dataset.items.replace_schema_metadata({_BAD_ROWS_KEY: b"{}"}), folder / schema.ITEMS)
    write_parquet(dataset.interactions.replace_schema_metadata({_BAD_ROWS_KEY: note}), folder / schema.INTERACTIONS)


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file, or say why it cannot be used."""
    try:
        return pq.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise DataError(
            f"{path} must exist, got nothing there; run `recsys import` or `recsys fetch` to make it"
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} must be a Parquet file, got {error}; write it anew") from error


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a Parquet file under a temporary name, then rename it."""
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def build_dataset(
    interactions: pa.Table, items: pa.Table | None, *, bad_rows: BadRows | None = None, where: str
) -> Dataset:
    """Bring raw tables into the contract: check columns and types, count and leave out bad rows.

    Args:
        interactions: raw rows; a missing ``position`` becomes the row order.
        items: raw items, or None when only ids are known.
        bad_rows: rows already left out by whoever read the raw tables.
        where: what to call the input in error messages.
    """
    bad = bad_rows or BadRows()
    _check_columns(interactions, schema.REQUIRED_INTERACTION_COLUMNS, f"{where} (interactions)")
    rows, counts = _clean_interactions(interactions, f"{where} (interactions)")
    bad = bad.plus(counts)
    if rows.num_rows == 0:
        raise DataError(
            f"{where} (interactions) must have at least one usable row, got none "
            f"(left out: {dict(bad.counts)}); mend the columns named there"
        )
    if items is None:
        items = pa.table({schema.ITEM: rows[schema.ITEM].unique()})
    _check_columns(items, schema.REQUIRED_ITEM_COLUMNS, f"{where} (items)")
    items, counts = _clean_items(items, f"{where} (items)")
    rows, items = _same_id_type(rows, items)
    return Dataset(interactions=rows, items=_with_missing_items(items, rows), bad_rows=bad.plus(counts))


def _check_columns(table: pa.Table, required: tuple[str, ...], where: str) -> None:
    names = table.column_names
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(f"{where}: column names must differ, got {twice[0]!r} more than once; rename one")
    for name in required:
        if name not in names:
            raise DataError(
                f"{where}: column {name!r} must be there, got columns {names[:20]}; add it or rename the one meant"
            )


def _clean_interactions(table: pa.Table, where: str) -> tuple[pa.Table, dict[str, int]]:
    columns = {name: decode(table[name]) for name in table.column_names}
    for name in (schema.USER, schema.ITEM):
        columns[name] = id_column(columns[name], f"{where}: column {name!r}")
    columns[schema.TIMESTAMP] = integer_column(columns[schema.TIMESTAMP], f"{where}: column 'timestamp'")
    has_position = schema.POSITION in columns
    if has_position:
        columns[schema.POSITION] = integer_column(columns[schema.POSITION], f"{where}: column 'position'")
    else:
        columns[schema.POSITION] = pa.array(np.arange(table.num_rows, dtype=np.int64))
    for name in (schema.RATING, schema.WEIGHT):
        if name in columns:
            columns[name] = number_column(columns[name], f"{where}: column {name!r}")
    clean = pa.table(columns)
    key = [schema.USER, schema.ITEM, schema.TIMESTAMP]
    key += [name for name in (schema.POSITION,) if has_position]
    key += [name for name in (schema.EVENT_TYPE,) if name in columns]
    causes = {
        "null user_id": schema.USER,
        "null item_id": schema.ITEM,
        "timestamp not a number": schema.TIMESTAMP,
        "position not a number": schema.POSITION,
    }
    clean, counts = _drop_nulls(clean, causes)
    repeated_E = _repeated(clean, key)
    counts["duplicate"] = int(repeated_E.sum())
    return clean.filter(pa.array(~repeated_E)), counts


def _clean_items(table: pa.Table, where: str) -> tuple[pa.Table, dict[str, int]]:
    columns = {name: decode(table[name]) for name in table.column_names}
    columns[schema.ITEM] = id_column(columns[schema.ITEM], f"{where}: column 'item_id'")
    clean, counts = _drop_nulls(pa.table(item_columns(columns, where)), {"null item_id in items": schema.ITEM})
    repeated_N = _repeated(clean, [schema.ITEM])
    counts["duplicate item_id in items"] = int(repeated_N.sum())
    return clean.filter(pa.array(~repeated_N)), counts


def _drop_nulls(table: pa.Table, causes: Mapping[str, str]) -> tuple[pa.Table, dict[str, int]]:
    """Leave out rows with a null in a needed column; a row counts for its first cause."""
    counts: dict[str, int] = {}
    for cause, name in causes.items():
        valid = pc.is_valid(table[name])
        counts[cause] = table.num_rows - int(pc.sum(valid).as_py() or 0)
        if counts[cause]:
            table = table.filter(valid)
    return table, counts


def _repeated(table: pa.Table, key: list[str]) -> BoolArray:
    """Return which rows repeat an earlier row in all columns of the key."""
    keys = [codes_of(table[name]) for name in key]
    by = np.lexsort(keys)
    same = np.ones(max(len(by) - 1, 0), dtype=np.bool_)
    for codes in keys:
        same &= codes[by][1:] == codes[by][:-1]
    repeated = np.zeros(len(by), dtype=np.bool_)
    repeated[by[1:]] = same
    return repeated


def codes_of(column: pa.ChunkedArray) -> IntArray:
    """Return for each value its number in the order of first appearance; nulls share one number.

    Shape: (rows,) int64.
    """
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    array = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes: IntArray = array.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _same_id_type(rows: pa.Table, items: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Make both tables' item ids text where one has numbers and the other text."""
    if rows[schema.ITEM].type == items[schema.ITEM].type:
        return rows, items
    return _item_ids_as_text(rows), _item_ids_as_text(items)


def _item_ids_as_text(table: pa.Table) -> pa.Table:
    at = table.column_names.index(schema.ITEM)
    return table.set_column(at, schema.ITEM, table[schema.ITEM].cast(pa.string()))


def _with_missing_items(items: pa.Table, rows: pa.Table) -> pa.Table:
    """Append a row of nulls for each item of the log that the items lack."""
    used = rows[schema.ITEM].unique()
    missing = used.filter(pc.invert(pc.is_in(used, value_set=items[schema.ITEM].combine_chunks())))
    if len(missing) == 0:
        return items
    columns = {name: pa.nulls(len(missing), items[name].type) for name in items.column_names}
    columns[schema.ITEM] = missing
    return pa.concat_tables([items, pa.table(columns, schema=items.schema)]).combine_chunks()


def _stored_bad_rows(table: pa.Table, path: Path) -> BadRows:
    """Return the counts that :func:`write_dataset` left in the file, if any."""
    note = (table.schema.metadata or {}).get(_BAD_ROWS_KEY)
    if note is None:
        return BadRows()
    try:
        return BadRows().plus({str(cause): int(n) for cause, n in json.loads(note).items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: the note of bad rows must be JSON counts, got {note!r}; import anew") from error
