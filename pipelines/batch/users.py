"""The users of a batch job, read as a stream: files of any size, in memory of one batch of rows."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from recsys.core.errors import DataError
from recsys.data import schema

ROWS = 65_536
"""Rows of a batch."""


def user_files(path: Path) -> list[Path]:
    """Return the file, or the Parquet and CSV files below the folder, sorted, but those whose names begin with . or _.

    Raises:
        DataError: there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"users must be a Parquet or CSV file, or a folder of such, got nothing at {path}")
        return [path]
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix in (".parquet", ".csv") and not any(p[0] in "._" for p in file.relative_to(path).parts)
    ]
    if not files:
        raise DataError(f"users must be a Parquet or CSV file, or a folder of such, got a folder without any: {path}")
    return files


def user_columns(path: Path) -> Iterator[pa.ChunkedArray]:
    """Yield the ``user_id`` column of a file batch by batch, in the file's own type; of CSV as text.

    Raises:
        DataError: the file cannot be read, or has no such column.
    """
    try:
        yield from _parquet_columns(path) if path.suffix == ".parquet" else _csv_columns(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"users must be a Parquet or CSV file, got {path}: {error}; write it anew") from error


def _parquet_columns(path: Path) -> Iterator[pa.ChunkedArray]:
    with pq.ParquetFile(path) as file:
        _require_column(file.schema_arrow.names, path)
        for batch in file.iter_batches(batch_size=ROWS, columns=[schema.USER]):
            yield pa.chunked_array([batch.column(0)])


def _csv_columns(path: Path) -> Iterator[pa.ChunkedArray]:
    convert = pyarrow.csv.ConvertOptions(column_types={schema.USER: pa.string()})
    with pyarrow.csv.open_csv(path, convert_options=convert) as reader:
        _require_column(reader.schema.names, path)
        for batch in reader:
            yield pa.chunked_array([batch.column(schema.USER)])


def _require_column(names: list[str], path: Path) -> None:
    if schema.USER not in names:
        raise DataError(f"{path} must have a column {schema.USER}, got {names[:20]}; rename the column")
