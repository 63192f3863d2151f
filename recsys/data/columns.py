"""Casts the columns of an items table to the types of the data contract."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import IntArray
from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.category_lists import category_lists
from recsys.data.ids import stored_ids


def decode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with dictionaries decoded and large or view strings made plain."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        return column.cast(pa.string())
    return column


def id_column(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Return ids as int64 or string (:mod:`recsys.data.ids`), null where a value is no id."""
    return stored_ids(column, where).texts


def item_columns(columns: Mapping[str, pa.ChunkedArray], where: str) -> dict[str, pa.ChunkedArray]:
    """Return an items table's columns with the contract's own ones in their types."""
    return {name: _item_column(name, column, f"{where}: column {name!r}") for name, column in columns.items()}


def _item_column(name: str, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    if name in (schema.TITLE, schema.BRAND, schema.TEXT):
        if pa.types.is_nested(column.type):
            raise DataError(f"{where} must hold text, got {column.type}; join the parts")
        return _cast(column, pa.string(), where)
    if name == schema.CATEGORIES:
        if not (_is_text(column.type) or _is_list(column.type) or pa.types.is_null(column.type)):
            raise DataError(f"{where} must hold text or lists of text, got {column.type}; convert it")
        return category_lists(column)
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


def codes_of(column: pa.ChunkedArray) -> IntArray:
    """Return for each value its number in the order of first appearance; nulls share one number.

    Shape: (rows,) int64.
    """
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    array = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes: IntArray = array.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes
