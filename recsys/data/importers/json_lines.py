"""Reading JSON: one object a line, or one list of objects; what is no object is counted."""

import ast
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.core.errors import DataError
from recsys.data.importers.raw import RawTable
from recsys.data.importers.text_source import read_text

NOT_JSON = "line not a JSON object"
_GZIP_MAGIC = b"\x1f\x8b"


def read_json_lines(path: Path) -> RawTable:
    """Read objects as rows; a column whose values differ in kind is text, nested values are JSON text.

    The fields of an object in an object are columns of their own: ``{"user": {"id": 7}}`` has the column ``user.id``.
    """
    source = read_text(path)
    bad: Counter[str] = Counter()
    objects = [_flat(row) for row in _all_objects(source.data, bad)]
    names = list(dict.fromkeys(name for row in objects for name in row if _clean(name) == name))
    columns = {name: _column([row.get(name) for row in objects]) for name in names}
    table = pa.table(columns) if columns else pa.table({"": pa.nulls(len(objects))})
    return RawTable(table=table, path=path, counts=dict(bad), notes=source.notes)


def objects_of(path: Path, bad: Counter[str], *, python_dicts: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, one a line, plain or gzip, without holding them all; count lines that are none.

    Args:
        path: the file.
        bad: where lines that are no objects are counted.
        python_dicts: whether lines may be Python dicts.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            for line in file:
                number += 1
                if not line.strip():
                    continue
                value = _parse(line, python_dicts=python_dicts)
                if value is None:
                    bad[NOT_JSON] += 1
                else:
                    yield value
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}, line {number + 1}: must be readable text or gzip, got {error}; download the file again"
        ) from error


def _all_objects(data: bytes, bad: Counter[str]) -> list[dict[str, Any]]:
    if data.lstrip().startswith(b"["):
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, list):
            objects = [value for value in values if isinstance(value, dict)]
            bad[NOT_JSON] += len(values) - len(objects)
            return objects
    objects = []
    for line in data.splitlines():
        if line.strip():
            value = _parse(line, python_dicts=False)
            if value is None:
                bad[NOT_JSON] += 1
            else:
                objects.append(value)
    return objects


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return an object with the fields of its objects, under names like ``user.id``, in their place."""
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    found: dict[str, Any] = {}
    for name, value in row.items():
        found |= {f"{name}.{below}": one for below, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _parse(line: bytes, *, python_dicts: bool) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        if not python_dicts:
            return None
        value = _python_literal(line)
    return value if isinstance(value, dict) else None


def _python_literal(line: bytes) -> object:
    """Read a line of the 2014 metadata, which is written as Python dicts."""
    try:
        return ast.literal_eval(line.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _column(values: list[Any]) -> pa.Array:
    """Return values of one kind in their Arrow type, others as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if kinds == {float}:
        return pa.array(values, pa.float64())
    if kinds == {list} and all(isinstance(part, str) for value in values for part in value or []):
        return pa.array(
            [None if value is None else list(map(_clean, value)) for value in values], pa.list_(pa.string())
        )
    return pa.array([None if value is None else _clean(_as_text(value)) for value in values], pa.string())


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _clean(text: str) -> str:
    """Replace what UTF-8 cannot hold, halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")
