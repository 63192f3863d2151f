"""Reading, validating and writing a folder in the data contract."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.core.artifacts import atomic_file
from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.clean import clean_interactions, clean_items
from recsys.data.impressions import clean_impressions
from recsys.data.joins import join_items
from recsys.data.options import ImportOptions

_BAD_ROWS_KEY = b"recsys.bad_rows"
_NOTES_KEY = b"recsys.notes"


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
    notes: tuple[str, ...] = ()
    """What a person should know of how the tables were read, one sentence each."""
    impressions: pa.Table | None = None
    """What was shown and what came of it, where the source has it."""


def read_dataset(folder: Path) -> Dataset:
    """Read the files of a folder in the contract: ``interactions.parquet`` and, where there, items and impressions."""
    return build_folder(folder, ImportOptions(allow_unmatched=True))


def build_folder(folder: Path, options: ImportOptions) -> Dataset:
    """Read a folder in the contract; times that :func:`write_dataset` wrote are seconds and not recognised again."""
    path = folder / schema.INTERACTIONS
    interactions = read_parquet(path)
    items = read_parquet(folder / schema.ITEMS) if (folder / schema.ITEMS).exists() else None
    impressions = folder / schema.IMPRESSIONS
    ours = _BAD_ROWS_KEY in (interactions.schema.metadata or {})
    if ours:
        options = replace(options, time_unit="s")
    dataset = build_dataset(
        interactions, items, bad_rows=_stored_bad_rows(interactions, path), where=str(folder), options=options
    )
    return replace(
        dataset,
        notes=_stored_notes(interactions, path) if ours else dataset.notes,
        impressions=clean_impressions(read_parquet(impressions), str(impressions)) if impressions.exists() else None,
    )


def require_target(folder: Path, *, source: Path | None = None) -> None:
    """Refuse a target in which writing a dataset would replace what :func:`write_dataset` did not write.

    Raises:
        DataError: the target is a file, is the source or holds it, or has a data file that another program wrote.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"the target must be a folder, got the file {folder}; choose another name")
    names = (schema.INTERACTIONS, schema.ITEMS, schema.IMPRESSIONS)
    if source is not None and source.resolve() in (folder.resolve(), *((folder / name).resolve() for name in names)):
        raise DataError(f"the target must not be the source, got {folder} for both; choose another folder")
    for path in (folder / name for name in names):
        if path.exists() and not is_ours(path):
            raise DataError(
                f"{folder} must be a new folder or hold a data set that recsys wrote, got {path.name} of another "
                f"program; choose another folder, or move the file away"
            )


def is_ours(path: Path) -> bool:
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
    mark = {_BAD_ROWS_KEY: b"{}"}
    write_parquet(dataset.items.replace_schema_metadata(mark), folder / schema.ITEMS)
    if dataset.impressions is not None:
        write_parquet(dataset.impressions.replace_schema_metadata(mark), folder / schema.IMPRESSIONS)
    else:
        (folder / schema.IMPRESSIONS).unlink(missing_ok=True)
    notes = {
        _BAD_ROWS_KEY: json.dumps(dict(dataset.bad_rows.counts)).encode(),
        _NOTES_KEY: json.dumps(dataset.notes).encode(),
    }
    write_parquet(dataset.interactions.replace_schema_metadata(notes), folder / schema.INTERACTIONS)


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
    interactions: pa.Table,
    items: pa.Table | None,
    *,
    where: str,
    bad_rows: BadRows | None = None,
    notes: tuple[str, ...] = (),
    options: ImportOptions | None = None,
) -> Dataset:
    """Bring raw tables into the contract: check columns and types, count and leave out bad rows.

    Args:
        interactions: raw rows; a missing ``position`` becomes the order in time, then of the rows.
        items: raw items, or None when only ids are known.
        where: what to call the input in error messages.
        bad_rows: rows that were left out when the raw tables were read.
        notes: notes of the reader of the raw tables, for the summary.
        options: how the tables are read.

    Raises:
        DataError: a table cannot be used, or the items are mostly of other ids than the log and that is not allowed.
    """
    options = options or ImportOptions(allow_unmatched=True)
    rows = clean_interactions(interactions, f"{where} (interactions)", options)
    bad, notes = (bad_rows or BadRows()).plus(rows.counts), notes + rows.notes
    if rows.table.num_rows == 0:
        left_out = ", ".join(f"{cause} {count:,}" for cause, count in bad.counts.items() if count)
        raise DataError(
            f"{where} (interactions) must have at least one usable row, got "
            + (f"none (left out: {left_out}); mend the columns named there" if left_out else "none; export it again")
        )
    if items is None:
        known = pa.table({schema.ITEM: rows.table[schema.ITEM].unique()})
        return Dataset(interactions=rows.table, items=known, bad_rows=bad, notes=notes)
    cleaned = clean_items(items, f"{where} (items)")
    notes = (*notes, *cleaned.notes)
    events, known = _same_id_type(rows.table, cleaned.table)
    join = join_items(_unique_texts(events), _unique_texts(known))
    if join.mostly_apart and not options.allow_unmatched:
        raise DataError(
            f"{where}: the items of the log must be those of the items file, got: {join}; mend the ids, or go on "
            "without their metadata by --allow-unmatched"
        )
    if join.without_metadata or join.never_used:
        notes = (*notes, str(join))
    return Dataset(
        interactions=events, items=_with_missing_items(known, events), bad_rows=bad.plus(cleaned.counts), notes=notes
    )


def _unique_texts(table: pa.Table) -> pa.Array:
    return table[schema.ITEM].unique().cast(pa.string())


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


def _stored_notes(table: pa.Table, path: Path) -> tuple[str, ...]:
    """Return the notes that :func:`write_dataset` left in the file, if any."""
    raw = (table.schema.metadata or {}).get(_NOTES_KEY, b"[]")
    try:
        return tuple(str(note) for note in json.loads(raw))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: the notes must be a JSON list, got {raw[:80]!r}; import anew") from error
