"""Owns importing CSV and Parquet files that already use the contract's column names."""

from pathlib import Path

import pyarrow as pa

from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.columns import ids_from_text, number_column
from recsys.data.importers.delimited import read_delimited
from recsys.data.table import BadRows, Dataset, build_dataset, read_dataset, read_parquet


def import_csv(source: Path) -> Dataset:
    """Import ``interactions.csv`` (and ``items.csv``) of a folder, or one file of interactions.

    ``categories`` are written as ``general|specific``; ids become integers where all are written as such.
    """
    rows_file, items_file = _files(source, ".csv")
    rows, counts = read_delimited(rows_file)
    bad = BadRows().plus(counts)
    items = None
    if items_file is not None:
        items, counts = read_delimited(items_file)
        bad = bad.plus({f"{cause} in items": n for cause, n in counts.items()})
        items = _infer(items, (schema.ITEM,), str(items_file))
    return build_dataset(
        _infer(rows, (schema.USER, schema.ITEM), str(rows_file)), items, bad_rows=bad, where=str(source)
    )


def import_parquet(source: Path) -> Dataset:
    """Import a folder in the contract, or one Parquet file of interactions."""
    if source.is_dir():
        return read_dataset(source)
    return build_dataset(read_parquet(source), None, where=str(source))


def _files(source: Path, suffix: str) -> tuple[Path, Path | None]:
    if not source.exists():
        raise DataError(f"{source} must be a file or a folder, got nothing there; check the path")
    if source.is_file():
        return source, None
    rows_file, items_file = source / f"interactions{suffix}", source / f"items{suffix}"
    if not rows_file.exists():
        raise DataError(f"{source} must hold interactions{suffix}, got a folder without it; name the file itself")
    return rows_file, items_file if items_file.exists() else None


_TEXT = {schema.TITLE, schema.BRAND, schema.TEXT, schema.CATEGORIES, schema.EVENT_TYPE}


def _infer(table: pa.Table, ids: tuple[str, ...], where: str) -> pa.Table:
    """Make ids integers where all are, and other columns numbers where all are."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if name in ids:
            column = ids_from_text(column)
        elif name not in _TEXT and name not in (schema.TIMESTAMP, schema.POSITION):
            numbers = number_column(column, f"{where}: column {name!r}")
            column = numbers if numbers.null_count == column.null_count else column
        columns[name] = column
    return pa.table(columns)
