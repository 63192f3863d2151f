"""Importing a data set: read it, show the first rows as understood, say what was left out and why, write it."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from recsys.core.errors import CallError
from recsys.core.writable import require_writable_folder
from recsys.data.importers import import_dataset
from recsys.data.options import ImportOptions
from recsys.data.table import Dataset, require_target, write_dataset

SHOWN_ROWS = 3
SHOWN_COLUMNS = 8
_WIDEST = 40


def run_import(format: str, source: Path, to: Path | None, options: ImportOptions) -> Iterator[str]:
    """Import ``source`` into the folder ``to`` (None writes nothing) and yield the lines of the summary."""
    if to is not None:
        require_target(to, source=source)
        require_writable_folder(to)
    dataset = import_dataset(format, source, options)
    if to is not None:
        write_dataset(dataset, to)
    yield from summary(dataset, to)


def summary(dataset: Dataset, to: Path | None) -> Iterator[str]:
    """Yield what was read: first rows, counts, what was left out by cause, and notes."""
    yield from first_rows("interactions", dataset.interactions)
    yield from first_rows("items", dataset.items)
    shown = "" if dataset.impressions is None else f", {dataset.impressions.num_rows:,} impressions"
    done = "checked; nothing was written (--check)" if to is None else f"written to {to}"
    yield f"{dataset.interactions.num_rows:,} interactions, {dataset.items.num_rows:,} items{shown} {done}"
    for cause, count in dataset.bad_rows.counts.items():
        yield f"left out {count:,} rows: {cause}"
    for note in dataset.notes:
        yield f"note: {note}"


def first_rows(name: str, table: pa.Table) -> Iterator[str]:
    """Yield a heading and a table's first rows as aligned text."""
    more = table.column_names[SHOWN_COLUMNS:]
    table = table.select(table.column_names[:SHOWN_COLUMNS])[:SHOWN_ROWS]
    rows = [
        list(map(_cell, table.column_names)),
        *([_cell(row[column]) for column in row] for row in table.to_pylist()),
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(table.num_columns)]
    yield f"first {name} as understood{f', without {len(more)} more columns' if more else ''}:"
    for row in rows:
        yield ("  " + "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))).rstrip()


def _cell(value: object) -> str:
    """Return a value on one line, cut where it is long."""
    text = "" if value is None else " ".join(str(value).split())
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def required_target(to: Path | None, *, check: bool) -> Path | None:
    """Return where to write: nowhere for a check, else the folder, which must be given."""
    if check:
        return None
    if to is None:
        raise CallError("import must have a target folder, got none; add --to FOLDER, or --check to write nothing")
    return to
