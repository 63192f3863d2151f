"""Ids: one rule for columns of any type and for single values."""

import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.core.errors import DataError, IdError
from recsys.data.ids import BLANKS, NULL_WORDS, IdIndex, compact_ids, id_text, read_ids, wire_id

_BIG = 2**53
_WRITTEN = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["007", "7", "7.0", "-7.0", "-0.0", "07.0", "7.00", "7.5", " 7 ", "\u00a0x\ufeff", "a b", "\x00"]),
    st.sampled_from([*NULL_WORDS, "9.14895E+17", "1e5", f"{_BIG}.0", f"{_BIG - 1}.0", f"-{_BIG}.0", "9" * 30 + ".0"]),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.just("x" * 1025),
)


def _one_by_one(values: list[object]) -> tuple[list[str | None], int]:
    """Return each value's id by the door of single values, and how many are no id."""
    ids: list[str | None] = []
    for value in values:
        try:
            ids.append(id_text(value))
        except IdError:
            ids.append(None)
    return ids, ids.count(None)


def _column(values: list[object], kind: pa.DataType) -> pa.ChunkedArray:
    half = len(values) // 2
    return pa.chunked_array([pa.array(values[:half], kind), pa.array(values[half:], kind)])


def _assert_doors_agree(values: list[object], kind: pa.DataType) -> None:
    read = read_ids(_column(values, kind), "ids")
    ids, missing = _one_by_one(values)
    assert read.texts.to_pylist() == ids
    assert sum(read.faults.values()) == missing == read.texts.null_count


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | _WRITTEN, max_size=12))
def test_read_ids_when_any_text_then_agrees_with_single_values(values: list[object]) -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        _assert_doors_agree(values, kind)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=12))
def test_read_ids_when_any_integers_then_text_numbers_and_wholes_are_the_same_ids(values: list[int | None]) -> None:
    _assert_doors_agree(list(values), pa.int64())
    written = [None if value is None else str(value) for value in values]
    as_numbers = read_ids(_column(list(values), pa.int64()), "ids").texts
    assert as_numbers.to_pylist() == read_ids(_column(list(written), pa.string()), "ids").texts.to_pylist()
    small = [value for value in values if value is None or abs(value) < _BIG]
    floats = read_ids(_column([None if v is None else float(v) for v in small], pa.float64()), "ids").texts
    assert floats.to_pylist() == [None if value is None else str(value) for value in small]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.floats() | st.sampled_from([7.0, 1e15, float(_BIG), -0.0, 1e300]), max_size=12))
def test_read_ids_when_any_floats_then_agrees_with_single_values(values: list[object]) -> None:
    _assert_doors_agree(values, pa.float64())
    # the same floats, written into a text file by a tool that writes plain decimals
    plain = [value for value in values if isinstance(value, float) and 1e-4 < abs(value) < 1e16]
    in_text = read_ids(_column([str(value) for value in plain if value % 1 == 0], pa.string()), "ids").texts
    as_floats = read_ids(_column([value for value in plain if value % 1 == 0], pa.float64()), "ids").texts
    assert in_text.to_pylist() == as_floats.to_pylist()


def test_read_ids_when_floats_have_32_bits_then_ids_from_2_to_the_24_are_rounded() -> None:
    # 2**24 + 1 cannot be held by a 32-bit float: 16777216.0 may be either of two ids
    read = read_ids(_column([16777215.0, 16777216.0], pa.float32()), "ids")
    assert (read.texts.to_pylist(), read.faults) == (["16777215", None], {"rounded to a float": 1})
    assert id_text(np.float32(16777215)) == "16777215"
    with pytest.raises(IdError, match="lost digits"):
        id_text(np.float32(16777216))


def test_read_ids_when_text_then_zeros_stay_blanks_go_and_faults_are_counted_by_cause() -> None:
    values = ["007", "7", "7.0", "  7\u00a0", "NULL", "", None, "9.14895E+17", "a\x00b", "x" * 1025]
    read = read_ids(_column(list(values), pa.string()), "ids")
    assert read.texts.to_pylist() == ["007", "7", "7", "7", None, None, None, None, None, None]
    assert read.faults == {
        "null": 3,
        "with characters that cannot be kept": 1,
        "longer than 1024 characters": 1,
        "rounded to a float": 1,
    }


def test_read_ids_when_bytes_or_decimals_then_read_as_what_they_say() -> None:
    read = read_ids(_column([b"caf\xc3\xa9", b"\xff", None], pa.binary()), "ids")
    assert read.texts.to_pylist() == ["café", None, None]
    assert read.faults == {"null": 1, "with characters that cannot be kept": 1}
    _assert_doors_agree([Decimal("18146744073709551000.0"), Decimal("7.5"), None], pa.decimal128(24, 1))


@pytest.mark.parametrize("kind", [pa.bool_(), pa.date32(), pa.list_(pa.int64()), pa.timestamp("s")])
def test_read_ids_when_the_type_holds_no_ids_then_is_refused_by_both_doors(kind: pa.DataType) -> None:
    with pytest.raises(DataError, match="ids must hold integers or text"):
        read_ids(pa.chunked_array([pa.nulls(1, kind)]), "ids")
    for value in (True, [7], {"id": 7}, b"7"):
        with pytest.raises(IdError, match="send it as text"):
            id_text(value)
    with pytest.raises(IdError, match="NUL"):
        id_text("half a pair \ud800")


def test_compact_ids_when_all_are_64_bit_integers_then_numbers_else_text() -> None:
    largest = 2**63 - 1
    assert compact_ids(_column([str(largest), None, "-5"], pa.string())).to_pylist() == [largest, None, -5]
    for other in (str(largest + 1), "007", "-0", "x"):
        assert compact_ids(_column(["1", other], pa.string())).to_pylist() == ["1", other]
    assert compact_ids(_column([None], pa.string())).type == pa.string()


def as_written(text: str) -> int | str:
    """Return the 64-bit integer that a text is written as, else the text."""
    number = int(text) if re.fullmatch(r"-?[0-9]+", text) else None
    return number if number is not None and str(number) == text and -(2**63) <= number < 2**63 else text


@given(_WRITTEN)
def test_compact_ids_when_any_text_then_is_a_number_where_it_is_written_as_one(value: str) -> None:
    texts = read_ids(_column([value], pa.string()), "ids").texts
    text = texts[0].as_py()
    if text is not None:
        kept = compact_ids(texts)[0].as_py()
        assert kept == as_written(text)
        assert id_text(kept) == text  # reading again changes nothing


def test_wire_id_when_a_browser_would_round_it_then_is_text() -> None:
    assert [wire_id(value) for value in (_BIG - 1, _BIG, -_BIG, "007")] == [_BIG - 1, str(_BIG), str(-_BIG), "007"]


def test_id_index_when_asked_in_any_form_then_finds_the_row() -> None:
    index = IdIndex([7, 9_007_199_254_740_993, "007"])
    assert [index.row(v) for v in (7, 7.0, "7", " 7.0", "9007199254740993", "007", "0007", "NULL", None)] == [
        *(0, 0, 0, 0),
        *(1, 2, None, None, None),
    ]
    column = read_ids(_column(["7", "9007199254740993", "x", None], pa.string()), "ids")
    assert (index.rows(column).tolist(), len(index)) == ([0, 1, -1, -1], 3)


def test_blanks_when_null_words_are_surrounded_by_them_then_are_still_null() -> None:
    assert {id_text(f"{blank}{word}{blank}") for blank in BLANKS for word in NULL_WORDS} == {None}
