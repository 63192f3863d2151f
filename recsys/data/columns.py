"""Owns bringing one raw column into the type the data contract wants; values that cannot be become null."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.errors import DataError
from recsys.data import schema

_NUMBER = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*$"
_CANONICAL_INTEGER = r"^(0|-?[1-9]\d{0,17})$"
_LARGEST = float(2**62)


def decode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with dictionaries decoded and large or view strings made plain."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        return column.cast(pa.string())
    return column


def id_column(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Return ids as int64 or string; whole-numbered floats count as integers."""
    kind = column.type
    if pa.types.is_null(kind) or _is_text(kind):
        return column.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise DataError(f"{where} must hold whole 64-bit numbers, got {error}; store it as text") from error
    raise DataError(f"{where} must hold integers or text, got {kind}; store it as one of these")


def ids_from_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text ids as int64 where every one of them is written as a plain integer, else unchanged."""
    plain = pc.all(pc.match_substring_regex(column, _CANONICAL_INTEGER)).as_py()
    return column.cast(pa.int64()) if plain else column


def number_column(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Return numbers as float64; text that is no number, and NaN or infinite values, become null."""
    kind = column.type
    if _is_text(kind):
        column = pc.if_else(pc.match_substring_regex(column, _NUMBER), pc.utf8_trim_whitespace(column), None)
        column = pc.replace_substring_regex(column, r"^\+", "")
    elif not (_is_number(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"{where} must hold numbers, got {kind}; convert it")
    numbers = column.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def integer_column(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Return whole numbers as int64 (fractions cut, dates as unix seconds), what is no number as null."""
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_boolean(kind):
        raise DataError(f"{where} must hold numbers, got {kind}; convert it")
    numbers = number_column(column, where)
    small = pc.less(pc.abs(numbers), _LARGEST)
    return pc.if_else(small, pc.trunc(numbers), pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False)


def item_columns(columns: Mapping[str, pa.ChunkedArray], where: str) -> dict[str, pa.ChunkedArray]:
    """Return an items table's columns with the contract's own ones in their types."""
    return {name: _item_column(name, column, f"{where}: column {name!r}") for name, column in columns.items()}


def _item_column(name: str, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    if name in (schema.TITLE, schema.BRAND, schema.TEXT):
        if pa.types.is_nested(column.type):
            raise DataError(f"{where} must hold text, got {column.type}; join the parts")
        return _cast(column, pa.string(), where)
    if name == schema.CATEGORIES:
        if _is_text(column.type):
            return pc.split_pattern(column, "|")
        return _cast(column, pa.list_(pa.string()), where)
    if name.startswith(schema.VECTOR_PREFIX):
        return _vector(column, where)
    return column


def _vector(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    if not _is_list(column.type):
        raise DataError(f"{where} must hold lists of one length, got {column.type}; store it as fixed-size lists")
    lengths = pc.unique(pc.list_value_length(column.drop_null())).to_pylist()
    if len(lengths) > 1:
        raise DataError(f"{where} must hold lists of one length, got lengths {sorted(lengths)[:5]}; pad or drop")
    return _cast(column, pa.list_(pa.float32(), lengths[0] if lengths else 0), where)


def _cast(column: pa.ChunkedArray, kind: pa.DataType, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(kind, safe=False)
    except pa.ArrowException as error:
        raise DataError(f"{where} must hold {kind}, got {column.type} ({error}); convert it") from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def text_of(*, title: str | None, brand: str | None, categories: list[str] | None, more: str | None = None) -> str:
    """Return one line of text about an item, from what is known of it."""
    parts = [
        title or "",
        f"brand: {brand}" if brand else "",
        f"categories: {' > '.join(categories)}" if categories else "",
        more or "",
    ]
    return "; ".join(part for part in parts if part)
