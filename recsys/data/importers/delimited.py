"""Owns reading delimited text files as columns of text, counting rows with a wrong number of fields."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from recsys.core.errors import DataError

WRONG_FIELDS = "wrong number of fields"


def read_delimited(
    path: Path, *, delimiter: str = ",", quoted: bool = True, names: Sequence[str] | None = None
) -> tuple[pa.Table, dict[str, int]]:
    """Read a file with every column as text, empty fields as null.

    Args:
        path: the file, UTF-8.
        delimiter: what stands between fields.
        quoted: whether fields may be put in double quotes.
        names: the column names of a file without a header line.

    Returns:
        The table, and the count of rows that were left out by cause.
    """
    skipped = 0

    def skip(row: Any) -> str:
        nonlocal skipped
        skipped += 1 + row.text.rstrip().count("\n")  # an open quote swallows lines
        return "skip"

    header = list(names) if names is not None else _header(path, delimiter=delimiter, quoted=quoted)
    try:
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=header, skip_rows=0 if names is not None else 1
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=skip,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(_what_is_wrong(path, error)) from error
    return table, {WRONG_FIELDS: skipped}


def _header(path: Path, *, delimiter: str, quoted: bool) -> list[str]:
    """Return the names in the first line."""
    try:
        with path.open("rb") as file:
            line = file.readline(1_000_000)
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise DataError(f"{path} must be a readable file, got {error}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line 1, column {error.start + 1}: must be UTF-8, got {error.reason}; save it as UTF-8"
        ) from error
    names = text.split(delimiter)
    if quoted:
        names = [name.strip().strip('"') for name in names]
    if len(set(names)) < len(names) or not text:
        raise DataError(f"{path}, line 1: must name every column once, got {text[:80]!r}; mend the header")
    return names


def _what_is_wrong(path: Path, error: Exception) -> str:
    """Return a message with the place: for a wrong encoding the line, else what the parser says."""
    try:
        data = path.read_bytes()
        data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        column = wrong.start - data.rfind(b"\n", 0, wrong.start)
        return f"{path}, line {line}, column {column}: must be UTF-8, got {wrong.reason}; save the file as UTF-8"
    except OSError:
        return f"{path} must be a readable file, got {error}; check the path"
    return f"{path} must be delimited text, got {error}; check delimiter and quotes there"
