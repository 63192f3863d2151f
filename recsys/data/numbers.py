"""Reading numbers without losing digits: a whole part in 64 bits and a fraction.

Axes: E row.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, Float64Array, IntArray
from recsys.core.errors import DataError

_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_INTEGER = r"^[+-]?[0-9]{1,18}$"
_LONG_INTEGER = r"^[+-]?[0-9]{19}$"
_LARGEST = 2.0**62


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers split into ``whole_E`` (rounded down) and ``fraction_E`` (0 to below 1).

    Shape:
        whole_E: (rows,) int64; 0 where not ``valid_E``.
        fraction_E: (rows,) float64.
        valid_E: (rows,) bool.
        as_written_E: (rows,) the values as they came, for messages.
    """

    whole_E: IntArray
    fraction_E: Float64Array
    valid_E: BoolArray
    as_written_E: pa.ChunkedArray

    def within(self, low: int, high: int) -> bool:
        """Tell whether all are valid and whole, from ``low`` to below ``high``."""
        if not len(self.whole_E) or not self.valid_E.all() or self.fraction_E.any():
            return False
        return bool(self.whole_E.min() >= low and self.whole_E.max() < high)


def read_numbers(column: pa.ChunkedArray, where: str) -> Numbers:
    """Return the numbers of a column; text that is no number, NaN, infinite and too large values are invalid."""
    kind = column.type
    if pa.types.is_integer(kind):
        return _from_integers(column)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return _from_floats(column.cast(pa.float64(), safe=False), column)
    if pa.types.is_string(kind):
        return _from_text(column)
    raise DataError(f"{where} must hold numbers, got {kind}; convert it")


def floats(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Return a column's numbers as float64, null where a value is no finite number."""
    kind = column.type
    if pa.types.is_string(kind):
        text = pc.utf8_trim_whitespace(column)
        text = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None)
        column = pc.replace_substring_regex(text, r"^\+", "")
    elif not _is_number(kind):
        raise DataError(f"{where} must hold numbers, got {kind}; convert it")
    numbers = column.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
        or pa.types.is_boolean(kind)
    )


def _from_integers(column: pa.ChunkedArray) -> Numbers:
    if column.type == pa.uint64():
        column = pc.if_else(pc.less(column, pa.scalar(2**63, pa.uint64())), column, None)
    whole = column.cast(pa.int64())
    valid_E = np.asarray(pc.is_valid(whole).to_numpy(), dtype=np.bool_)
    whole_E = np.asarray(pc.fill_null(whole, 0).to_numpy(), dtype=np.int64)
    return Numbers(whole_E=whole_E, fraction_E=np.zeros(len(whole_E)), valid_E=valid_E, as_written_E=column)


def _from_floats(numbers: pa.ChunkedArray, column: pa.ChunkedArray) -> Numbers:
    value_E = np.asarray(pc.fill_null(numbers, np.nan).to_numpy(), dtype=np.float64)
    valid_E = np.isfinite(value_E) & (np.abs(value_E) < _LARGEST)
    value_E = np.where(valid_E, value_E, 0.0)
    floor_E = np.floor(value_E)
    fraction_E = np.minimum(value_E - floor_E, np.nextafter(1.0, 0.0))
    return Numbers(whole_E=floor_E.astype(np.int64), fraction_E=fraction_E, valid_E=valid_E, as_written_E=column)


def _from_text(column: pa.ChunkedArray) -> Numbers:
    """Read integers exactly, and other numbers as floats."""
    text = pc.utf8_trim_whitespace(column)
    plain = pc.replace_substring_regex(text, r"^\+", "")
    plain = pc.if_else(pc.match_substring_regex(text, _NUMBER), plain, None)
    integer = pc.if_else(pc.match_substring_regex(plain, _INTEGER), plain, None)
    long = pc.if_else(pc.match_substring_regex(plain, _LONG_INTEGER), plain, None)
    fits = pc.less_equal(pc.utf8_ltrim(long, "-"), str(2**63 - 1))
    integer = pc.coalesce(integer, pc.if_else(fits, long, None))
    whole = _from_integers(integer.cast(pa.int64()))
    rest = pc.if_else(pc.is_valid(integer), None, plain)
    other = _from_floats(rest.cast(pa.float64()), column)
    return Numbers(
        whole_E=np.where(whole.valid_E, whole.whole_E, other.whole_E),
        fraction_E=np.where(whole.valid_E, 0.0, other.fraction_E),
        valid_E=whole.valid_E | other.valid_E,
        as_written_E=column,
    )
