"""Reading delimited text as columns of text; every line is in a row of the table, blank, or counted."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from recsys.core.errors import DataError
from recsys.data.importers.headers import num_recognised
from recsys.data.importers.raw import RawTable
from recsys.data.importers.text_source import read_text

WRONG_FIELDS = "wrong number of fields"
OPEN_QUOTE = "quote left open"
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SNIFFED_LINES = 20
_BLOCK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a delimited file is written."""

    delimiter: str | None = None
    """What stands between fields; None recognises it among :data:`SEPARATORS`."""
    quoted: bool = True
    """Whether fields may be put in double quotes."""
    names: Sequence[str] | None = None
    """The column names of a file without a header line."""
    numbered: bool = False
    """Whether the file has no header line and its columns are called 1, 2, ..."""


def read_delimited(path: Path, form: Form | None = None) -> RawTable:
    """Read a file with every column as text, empty fields as null.

    A row with a wrong number of fields is left out and counted once for each of its lines. A quote that stays open and
    would swallow whole rows costs its own line only.
    """
    form = form or Form()
    source = read_text(path)
    delimiter = form.delimiter or _sniffed(source.data)
    notes = source.notes
    if form.delimiter is None and delimiter != ",":
        notes = (*notes, f"fields are separated by {SEPARATORS[delimiter]}")
    if not source.data.strip():
        raise DataError(f"{path} must hold a header line and rows, got an empty file; export it again")
    first, header_line = _header(source.data, delimiter, quoted=form.quoted)
    body = source.data
    if form.names is not None:
        names = list(form.names)
    elif form.numbered:
        names = [str(number) for number in range(1, len(first) + 1)]
    else:
        names, body = first, source.data[header_line:]
        if len(set(names)) < len(names) or not any(names):
            raise DataError(f"{path}, line 1: must name every column once, got {first[:8]!r}; mend the header")
    table, counts = _parsed(path, body, names, (delimiter, form.quoted))
    return RawTable(table=table, path=path, counts={cause: n for cause, n in counts.items() if n}, notes=notes)


def _sniffed(data: bytes) -> str:
    """Return the separator under which the first line has most known names, then under which lines are most alike."""
    lines = data[: 1 << 20].decode("utf-8", "ignore").splitlines()[:_SNIFFED_LINES]
    if not lines:
        return ","

    def merit(delimiter: str) -> tuple[int, int, int]:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        width = len(rows[0]) if rows else 0
        return num_recognised(rows[0] if rows else []), sum(len(row) == width for row in rows) * (width > 1), width

    try:
        return max(SEPARATORS, key=merit)
    except csv.Error:
        return ","


def _header(data: bytes, delimiter: str, *, quoted: bool) -> tuple[list[str], int]:
    """Return the fields of the first line and where the next one starts."""
    ends = [place for place in (data.find(b"\n"), data.find(b"\r")) if place >= 0]
    end = min(ends, default=len(data))
    text = data[:end].decode("utf-8")
    after = end + (2 if data[end : end + 2] == b"\r\n" else 1)
    if not quoted:
        return text.split(delimiter), after
    fields = next(csv.reader([text], delimiter=delimiter), []) if len(text) < csv.field_size_limit() else []
    return [field.strip().strip('"') for field in fields], after


def _parsed(path: Path, body: bytes, names: list[str], form: tuple[str, bool]) -> tuple[pa.Table, Counter[str]]:
    delimiter, quoted = form
    if not body.strip(b"\r\n"):
        return pa.table({name: pa.array([], pa.string()) for name in names}), Counter()
    if not (quoted and b'"' in body):
        return _by_arrow(path, body, names, (delimiter, False))
    table, counts = _by_arrow(path, body, names, form)
    lines = list(StringIO(body.decode("utf-8"), newline=""))
    if table.num_rows + counts.total() == sum(bool(line.strip("\r\n")) for line in lines):
        return table, counts  # no value has a line break: nothing can have been swallowed
    return _by_line(lines, names, delimiter)


def _by_arrow(path: Path, body: bytes, names: list[str], form: tuple[str, bool]) -> tuple[pa.Table, Counter[str]]:
    counts: Counter[str] = Counter()

    def skip(_row: Any) -> str:
        counts[WRONG_FIELDS] += 1
        return "skip"

    delimiter, quoted = form
    try:
        table = pacsv.read_csv(
            pa.BufferReader(body),
            read_options=pacsv.ReadOptions(use_threads=False, column_names=names, block_size=_BLOCK),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=skip,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} must be delimited text, got {error}; check delimiter and quotes there") from error
    return table, counts


def _by_line(lines: list[str], names: list[str], delimiter: str) -> tuple[pa.Table, Counter[str]]:
    """Parse lines one by one, which finds quotes that were left open."""
    counts: Counter[str] = Counter()
    rows: list[list[str]] = []
    for fields, num_lines, cause in _records(lines, len(names), delimiter):
        if cause is None:
            rows.append(fields)
        else:
            counts[cause] += num_lines
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table(
        {
            name: pa.array([value or None for value in column], pa.string())
            for name, column in zip(names, columns, strict=True)
        }
    ), counts


def _records(lines: list[str], width: int, delimiter: str) -> Iterator[tuple[list[str], int, str | None]]:
    """Yield each record's fields, its lines without blank ones, and why it cannot be kept, None where it can."""
    place = 0
    while place < len(lines):
        reader = csv.reader(map(lines.__getitem__, range(place, len(lines))), delimiter=delimiter)
        start = place
        while place < len(lines):
            fields = _next(reader)
            used = lines[place : start + reader.line_num]
            filled = sum(bool(line.strip("\r\n")) for line in used)
            if fields is None or (len(used) > 1 and _swallows(fields, used, width, delimiter)):
                yield [], 1, OPEN_QUOTE
                place += 1
                break  # start again behind the line with the open quote
            place += len(used)
            if filled:
                yield fields, filled, None if len(fields) == width else WRONG_FIELDS


def _next(reader: Any) -> list[str] | None:
    """Return the next record; None where a field grows beyond what the csv module reads."""
    try:
        fields: list[str] = next(reader, [])
    except csv.Error:
        return None
    return fields


def _swallows(fields: list[str], used: list[str], width: int, delimiter: str) -> bool:
    """Tell whether a record of several lines holds whole rows, so that its quote was never meant to stay open.

    A line inside counts as a row when it has the right number of fields and starts with a number where the record does.
    """
    number = fields[0].strip().isdigit() if fields else False
    alone = [next(csv.reader([line], delimiter=delimiter), []) for line in used[1:] if line.strip("\r\n")]
    rows = [len(row) == width and (not number or row[0].strip().isdigit()) for row in alone]
    return bool(rows) and width > 1 and (all(rows) if len(fields) == width else any(rows))
