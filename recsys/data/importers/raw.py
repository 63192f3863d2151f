"""A table as a file holds it, before its columns are understood, and what was lost in reading it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from recsys.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """Columns under the file's own names; every row of the file is in ``table`` or counted in ``counts``."""

    table: pa.Table
    path: Path
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many rows were left out, by cause."""
    notes: tuple[str, ...] = ()
    """How the file was read."""


def joined(parts: Sequence[RawTable], where: Path) -> RawTable:
    """Put the parts of one table under each other; columns of different types become text."""
    if len(parts) == 1:
        return parts[0]
    tables = _alike([part.table for part in parts], where)
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return RawTable(
        table=pa.concat_tables(tables, promote_options="permissive"),
        path=where,
        counts=dict(counts),
        notes=(f"{len(parts)} files are read as parts of one table, from {parts[0].path.name}", *notes),
    )


def _alike(tables: list[pa.Table], where: Path) -> list[pa.Table]:
    types: dict[str, set[pa.DataType]] = {}
    for table in tables:
        if len(set(table.column_names)) < table.num_columns:
            raise DataError(f"{where}: column names must differ, got {table.column_names[:20]}; rename one")
        for column in table.schema:
            types.setdefault(column.name, set()).add(column.type)
    mixed = {name for name, kinds in types.items() if len(kinds - {pa.null()}) > 1}
    try:
        return [
            pa.table({name: t[name].cast(pa.string()) if name in mixed else t[name] for name in t.column_names})
            for t in tables
        ]
    except pa.ArrowException as error:
        raise DataError(f"{where}: its parts must hold columns of one type, got {sorted(mixed)} ({error})") from error
