"""Importing tables of any make (CSV and its kin, Parquet, JSON lines): finds files, recognises columns."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.importers.delimited import Form, read_delimited
from recsys.data.importers.headers import Kind, kind_of, lacking_of, understood
from recsys.data.importers.json_lines import read_json_lines
from recsys.data.importers.raw import RawTable, joined
from recsys.data.impressions import clean_impressions
from recsys.data.numbers import floats
from recsys.data.options import ImportOptions
from recsys.data.table import BadRows, Dataset, build_dataset, build_folder, is_ours, read_parquet

_PACKED = ("", ".gz", ".zst", ".bz2", ".xz", ".zip")
_DELIMITED = tuple(end + packed for end in (".csv", ".tsv", ".txt", ".inter", ".item") for packed in _PACKED)
_JSON = tuple(end + packed for end in (".jsonl", ".json", ".ndjson") for packed in _PACKED)
_PARQUET = (".parquet", ".pq", ".parq")
_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_TEXT = {schema.TITLE, schema.BRAND, schema.TEXT, schema.CATEGORIES, schema.EVENT_TYPE}
_AS_THEY_ARE = {schema.USER, schema.ITEM, schema.TIMESTAMP, schema.POSITION, schema.RATING, schema.WEIGHT}


def import_csv(source: Path, options: ImportOptions) -> Dataset:
    """Import delimited text, a file of interactions or a folder; separator, quotes and packing are recognised."""
    numbered = bool(options.columns) and all(name.isdigit() for name in options.columns.values())
    return _import(source, options, _DELIMITED, lambda path: _read_text_table(path, numbered=numbered))


def import_json(source: Path, options: ImportOptions) -> Dataset:
    """Import JSON lines (or lists of objects): a file of interactions, or a folder of files."""
    return _import(source, options, _JSON, read_json_lines)


def import_parquet(source: Path, options: ImportOptions) -> Dataset:
    """Import Parquet: a file of interactions, a folder in the contract, or a folder of parts."""
    if is_ours(source / schema.INTERACTIONS):
        return build_folder(source, options)
    dataset = _import(source, options, _PARQUET, lambda path: RawTable(table=read_parquet(path), path=path))
    shown = source / schema.IMPRESSIONS
    return (
        replace(dataset, impressions=clean_impressions(read_parquet(shown), str(shown))) if shown.exists() else dataset
    )


def import_any(source: Path, options: ImportOptions) -> Dataset:
    """Import whichever of the three a file or a folder is."""
    files = [source] if source.is_file() else _files(source, (*_DELIMITED, *_JSON, *_PARQUET))
    for suffixes, work in ((_PARQUET, import_parquet), (_DELIMITED, import_csv), (_JSON, import_json)):
        if any(path.name.lower().endswith(suffixes) for path in files):
            return work(source, options)
    present = files or _files(source, ("",))
    sheets = any(path.suffix.lower() in _SHEETS for path in present)
    raise DataError(
        f"{source} must be or hold a file that ends in .csv, .tsv, .txt, .inter, .jsonl, .json or .parquet, "
        f"got {[path.name for path in present[:5]] or 'no file'}; "
        + ("save sheets as CSV" if sheets else "check the path, or name the format instead of auto")
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    interactions: list[RawTable]
    items: list[RawTable]
    others: list[Path]


def _import(
    source: Path, options: ImportOptions, suffixes: tuple[str, ...], read: Callable[[Path], RawTable]
) -> Dataset:
    found = _found(source, options, suffixes, read)
    raw = joined(found.interactions, source)
    rows, notes = understood(raw.table, "interactions", options.columns, f"{raw.path} (interactions)")
    bad, notes = BadRows().plus(raw.counts), (*raw.notes, *notes)
    items = None
    if found.items:
        raw = joined(found.items, source)
        items, more = understood(raw.table, "items", options.columns, f"{raw.path} (items)")
        notes = (*notes, *raw.notes, *more)
        bad = bad.plus({f"{cause} in items": n for cause, n in raw.counts.items()})
    if found.others:
        notes = (*notes, f"files that nothing uses: {', '.join(path.name for path in found.others[:10])}")
    notes = tuple(dict.fromkeys(notes))
    items = None if items is None else _typed(items)
    return build_dataset(rows, items, bad_rows=bad, notes=notes, where=str(source), options=options)


def _found(source: Path, options: ImportOptions, suffixes: tuple[str, ...], read: Callable[[Path], RawTable]) -> _Found:
    """Read the files of a source: by their names, else by their columns."""
    if not source.exists():
        raise DataError(f"{source} must be a file or a folder, got nothing there; check the path")
    if source.is_file():
        return _Found(interactions=[read(source)], items=[], others=[])
    files = _files(source, suffixes)
    named: dict[Kind | None, list[Path]] = {"interactions": [], "items": [], None: []}
    for path in files:
        named[_named(path.relative_to(source))].append(path)
    if named["interactions"]:
        tables: dict[Kind, list[RawTable]] = {
            "interactions": [read(path) for path in named["interactions"]],
            "items": [read(path) for path in named["items"]],
        }
        return _Found(interactions=tables["interactions"], items=tables["items"], others=named[None])
    by_columns: dict[Kind | None, list[RawTable]] = {"interactions": [], "items": [], None: []}
    for path in files:
        raw = read(path)
        by_columns[kind_of(raw.table.column_names, options.columns)].append(raw)
    if not by_columns["interactions"]:
        others = [*by_columns[None], *by_columns["items"]]
        lacking = [lacking_of(raw.table.column_names, options.columns) for raw in others]
        columns = [
            f"{raw.path.name} with columns {raw.table.column_names[:20]}, none of them read as {' or '.join(missing)}"
            for raw, missing in zip(others, lacking, strict=True)
        ]
        example = min(lacking, key=len)[0] if lacking else schema.TIMESTAMP
        raise DataError(
            f"{source} must hold interactions{suffixes[0]} or a file with columns user_id, item_id and timestamp, got "
            f"{'; '.join(columns[:5]) or 'no file that ends in ' + suffixes[0]}; name the columns that are "
            f"meant, as in --map {example}=ITS_NAME"
        )
    return _Found(
        interactions=by_columns["interactions"],
        items=by_columns["items"],
        others=[raw.path for raw in by_columns[None]],
    )


def _files(source: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the data files of a folder and its folders, in the order of their names; hidden ones are left out."""
    try:
        paths = sorted(path for path in source.rglob("*") if path.is_file())
    except OSError as error:
        raise DataError(f"{source} must be a readable folder, got {error}; check its rights") from error
    return [
        path
        for path in paths
        if path.name.lower().endswith(suffixes)
        and path.name != schema.IMPRESSIONS
        and not any(part.startswith((".", "_")) for part in path.relative_to(source).parts)
    ]


def _named(path: Path) -> Kind | None:
    """Tell what a file is called: ``interactions...``, ``items...``, RecBole's endings, or in a folder named so."""
    first = path.parts[0].lower()
    if first.startswith("interactions") or path.name.lower().endswith(".inter"):
        return "interactions"
    return "items" if first.startswith("items") or path.name.lower().endswith(".item") else None


def _read_text_table(path: Path, *, numbered: bool) -> RawTable:
    if path.suffix in (".inter", ".item"):
        return read_delimited(path, Form(delimiter="\t", quoted=False))
    return read_delimited(path, Form(numbered=numbered))


def _typed(table: pa.Table) -> pa.Table:
    """Make columns of text numbers where all their values are; the contract's own columns are read later."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if name not in _TEXT and name not in _AS_THEY_ARE and pa.types.is_string(column.type):
            numbers = floats(column, name)
            plain = not pc.any(pc.match_substring_regex(column, r"^0[0-9]")).as_py()
            column = numbers if numbers.null_count == column.null_count and plain else column
        columns[name] = column
    return pa.table(columns)
