"""Reading ids: one rule for columns of files and for single values of a call.

An id is text. Two ids are the same when their texts are the same:

- text counts exactly as written, so ``007`` is not ``7``; blanks around it are cut off;
- a whole number counts as it is written: ``7``, ``7.0`` and the text ``"7.0"`` are the id ``7``;
- words that stand for nothing (``""``, ``NULL``, ``nan``, ``N/A``, ...) are no id;
- a float too large to be exact (2**53 and more in 64 bits, or text like ``9.14E+17``) is no id: digits are lost.

A table stores ids as int64 where all of them are written as such numbers, else as text (:func:`compact_ids`).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import DataError, IdError

NULL_WORDS: Final = frozenset(
    [
        *("", "NULL", "null", "Null", "None", "none", "NONE", "NaN", "nan", "NAN", "-NaN", "-nan", "N/A", "n/a", "NA"),
        *("<NA>", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN"),
    ]
)
"""What tools write where a value is missing."""

BLANKS: Final = " \t\n\r\v\f\u00a0\u200b\u3000\ufeff"
"""Characters that are cut off at both ends, among them the no-break space and the byte order mark."""

MAX_LENGTH: Final = 1024
"""The most characters of an id."""

NULL: Final = "null"
NOT_WHOLE: Final = "not a whole number"
ROUNDED: Final = "rounded to a float"
UNREADABLE: Final = "with characters that cannot be kept"
TOO_LONG: Final = f"longer than {MAX_LENGTH} characters"
FAULTS: Final = (NULL, NOT_WHOLE, ROUNDED, UNREADABLE, TOO_LONG)
"""Why a value is no id."""

EXACT_FLOAT: Final = 2**53
"""From here on a 64-bit float does not tell neighbouring whole numbers apart; nor does a browser."""

_SCIENTIFIC = r"^-?[1-9](\.[0-9]+)?[eE]\+[0-9]{2,3}$"
_WHOLE_FLOAT = r"^-?(0|[1-9][0-9]*)\.0$"
_ROUNDED_WHOLE = r"^-?[1-9][0-9]{16,}\.0$"
_AT_LIMIT = r"^-?[1-9][0-9]{15}\.0$"
_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"


@dataclass(frozen=True, kw_only=True)
class IdColumn:
    """Ids of a column, null where a value is no id; ``masks`` says by cause of :data:`FAULTS` which are none.

    Shape:
        masks: (rows,) bool for each cause that happened; a row has one cause at most.
    """

    texts: pa.ChunkedArray
    """Text; what :func:`stored_ids` returns may be int64."""
    masks: Mapping[str, BoolArray]

    @property
    def faults(self) -> dict[str, int]:
        """How many values are no id, by cause."""
        return {cause: int(mask_E.sum()) for cause, mask_E in self.masks.items()}


def id_text(value: object) -> str | None:
    """Return the id that a single value of a call or a JSON document is; None where it stands for nothing.

    Raises:
        IdError: the value is no id; says why.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _text_id(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, float | Decimal | np.floating):
        raise IdError(f"an id must be text or a whole number, got {type(value).__name__}; send it as text")
    return _number_id(value)


def _number_id(value: float | Decimal | np.floating) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value) or value != int(value):
        raise IdError(f"an id must be text or a whole number, got {value}; send it as text")
    if not isinstance(value, Decimal) and abs(float(value)) >= _exact_up_to(value):
        raise IdError(f"an id must be exact, got {value!r}, a float that has lost digits; send it as text")
    return str(int(value))


def _exact_up_to(value: float | np.floating) -> int:
    return int(2 ** int(np.finfo(value.dtype).nmant + 1)) if isinstance(value, np.floating) else EXACT_FLOAT


def _text_id(value: str) -> str | None:
    text = value.strip(BLANKS)
    if text in NULL_WORDS:
        return None
    if "\x00" in text or not _is_utf8(text):
        raise IdError(
            f"an id must be text without NUL characters or half surrogate pairs, got {text[:40]!r}; send it without"
        )
    if len(text) > MAX_LENGTH:
        raise IdError(f"an id must have at most {MAX_LENGTH} characters, got {len(text)}; shorten it")
    if re.search(_SCIENTIFIC, text):
        raise IdError(f"an id must be exact, got {text!r}, a number that has lost digits; send all of them")
    if not re.search(_WHOLE_FLOAT, text):
        return text
    number = int(text[:-2])
    if abs(number) >= EXACT_FLOAT:
        raise IdError(f"an id must be exact, got {text!r}, a float that has lost digits; send it as text")
    return str(number)


def _is_utf8(text: str) -> bool:
    """Return whether a text has no half of a surrogate pair, as JSON may bring."""
    return not re.search("[\ud800-\udfff]", text)


def read_ids(column: pa.ChunkedArray, where: str) -> IdColumn:
    """Return the ids of a column, by the same rule as :func:`id_text`.

    Args:
        column: text, whole numbers, decimals, floats, UTF-8 bytes, or a dictionary of these.
        where: what to call the column in an error message.

    Raises:
        DataError: the column's type cannot hold ids.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return read_ids(column.cast(kind.value_type), where)
    if pa.types.is_null(kind) or pa.types.is_string(kind) or _is_odd_text(kind):
        return _from_text(column.cast(pa.string()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _from_bytes(column)
    if pa.types.is_integer(kind):
        return _without_faults(column.cast(pa.string()), {NULL: pc.is_null(column)})
    if pa.types.is_floating(kind):
        return _from_floats(column)
    if pa.types.is_decimal(kind):
        return _from_decimals(column)
    raise DataError(f"{where} must hold integers or text, got {kind}; store it as one of these")


def compact_ids(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ids as int64 where all of them are written as 64-bit integers, else as they are."""
    if texts.null_count == len(texts) or not pc.all(pc.match_substring_regex(texts, _INTEGER)).as_py():
        return texts
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:  # 19 digits, beyond 64 bits
        return texts


def stored_ids(column: pa.ChunkedArray, where: str) -> IdColumn:
    """Return a column's ids as a table stores them (:func:`compact_ids`); whole numbers are not written out as text."""
    if pa.types.is_integer(column.type) and column.null_count < len(column):
        try:
            stored = column.cast(pa.int64())
        except pa.ArrowInvalid:  # unsigned, beyond 64 bits
            stored = None
        if stored is not None:
            null_E = np.asarray(pc.is_null(stored).to_numpy(), dtype=np.bool_) if stored.null_count else None
            return IdColumn(texts=stored, masks={} if null_E is None else {NULL: null_E})
    read = read_ids(column, where)
    return IdColumn(texts=compact_ids(read.texts), masks=read.masks)


def wire_id(value: int | str) -> int | str:
    """Return an id as JSON may carry it: a number that a browser would round goes as text."""
    return value if isinstance(value, str) or abs(value) < EXACT_FLOAT else str(value)


class IdIndex:
    """Looks up the row of an id, however it is written.

    >>> IdIndex([7, 12]).row("7"), IdIndex([7, 12]).row("007")
    (0, None)
    """

    def __init__(self, ids: Iterable[int | str]) -> None:
        self._rows = {str(value): row for row, value in enumerate(ids)}

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._rows)

    def row(self, value: object) -> int | None:
        """Return the row of a single value; None where it is null or unknown.

        Raises:
            IdError: the value is no id; says why.
        """
        text = id_text(value)
        return None if text is None else self._rows.get(text)

    def rows(self, column: IdColumn) -> IntArray:
        """Return the row of each id of a column, -1 where it is null or unknown; shape (ids,), int64."""
        texts = column.texts.to_pylist()
        return np.fromiter((self._rows.get(text, -1) for text in texts), np.int64, len(texts))


def _from_text(column: pa.ChunkedArray) -> IdColumn:
    texts = pc.utf8_trim(column, BLANKS)
    null = pc.or_(pc.is_null(texts), pc.is_in(texts, value_set=pa.array(sorted(NULL_WORDS))))
    texts = pc.if_else(null, None, texts)
    whole = pc.match_substring_regex(texts, _WHOLE_FLOAT)
    digits = pc.if_else(whole, pc.utf8_slice_codeunits(texts, 0, -2), None)
    bare = pc.utf8_ltrim(digits, "-")
    rounded = pc.or_(
        pc.or_(pc.match_substring_regex(texts, _SCIENTIFIC), pc.match_substring_regex(texts, _ROUNDED_WHOLE)),
        pc.and_(
            pc.match_substring_regex(texts, _AT_LIMIT), pc.fill_null(pc.greater_equal(bare, str(EXACT_FLOAT)), False)
        ),
    )
    digits = pc.if_else(pc.equal(digits, "-0"), "0", digits)
    faults = {
        NULL: null,
        UNREADABLE: pc.match_substring(texts, "\x00"),
        TOO_LONG: pc.greater(pc.utf8_length(texts), MAX_LENGTH),
        ROUNDED: rounded,
    }
    return _without_faults(pc.coalesce(digits, texts), faults)


def _from_bytes(column: pa.ChunkedArray) -> IdColumn:
    """Read UTF-8 bytes; values that are not UTF-8 are counted."""
    try:
        return _from_text(column.cast(pa.string()))
    except pa.ArrowInvalid:
        values = [_decoded(value) for value in column.to_pylist()]
    bad_E = np.fromiter((value is None for value in values), np.bool_, len(values))
    bad_E &= np.asarray(pc.is_valid(column).to_numpy(), dtype=np.bool_)
    read = _from_text(pa.chunked_array([pa.array(values, pa.string())]))
    masks = {cause: mask_E & ~bad_E for cause, mask_E in read.masks.items()}
    masks[UNREADABLE] = masks.get(UNREADABLE, np.zeros_like(bad_E)) | bad_E
    return IdColumn(texts=read.texts, masks={cause: mask_E for cause, mask_E in masks.items() if mask_E.any()})


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _from_floats(column: pa.ChunkedArray) -> IdColumn:
    bits = {pa.float16(): 11, pa.float32(): 24}.get(column.type, 53)
    numbers = column.cast(pa.float64())
    null = pc.or_kleene(pc.is_null(numbers), pc.is_nan(numbers))
    broken = pc.invert(pc.equal(numbers, pc.trunc(numbers)))
    broken = pc.or_(broken, pc.is_inf(numbers))
    faults = {NULL: null, NOT_WHOLE: broken, ROUNDED: pc.greater_equal(pc.abs(numbers), float(2**bits))}
    bad = pc.fill_null(pc.or_kleene(pc.or_kleene(null, broken), faults[ROUNDED]), True)
    whole = pc.if_else(bad, None, numbers).cast(pa.int64())
    return _without_faults(whole.cast(pa.string()), faults)


def _from_decimals(column: pa.ChunkedArray) -> IdColumn:
    values = column.to_pylist()
    whole = [value is not None and value == value.to_integral_value() for value in values]
    texts = [str(int(value)) if good else None for value, good in zip(values, whole, strict=True)]
    broken = [value is not None and not good for value, good in zip(values, whole, strict=True)]
    faults = {NULL: pc.is_null(column), NOT_WHOLE: pa.chunked_array([pa.array(broken, pa.bool_())])}
    return _without_faults(pa.chunked_array([pa.array(texts, pa.string())]), faults)


def _without_faults(texts: pa.ChunkedArray, faults: Mapping[str, pa.ChunkedArray]) -> IdColumn:
    """Make values with a fault null; a value counts for the first of its faults."""
    masks: dict[str, BoolArray] = {}
    open_E = np.ones(len(texts), dtype=np.bool_)
    for cause, mask in faults.items():
        bad_E = np.asarray(pc.fill_null(mask, False).to_numpy(), dtype=np.bool_) & open_E
        if bad_E.any():
            masks[cause] = bad_E
            open_E = open_E & ~bad_E
    return IdColumn(texts=pc.if_else(pa.array(open_E), texts, None) if masks else texts, masks=masks)


def _is_odd_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
