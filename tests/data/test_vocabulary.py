"""One way from external ids to rows, for columns, single values and histories from outside."""

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.errors import CallError, DataError
from recsys.data.vocabulary import GivenEvent, GivenHistory, Vocabulary

MOMENT = 1_700_000_000
WRITTEN = st.text("017-.eEx ", max_size=4) | st.integers(-20, 20).map(str)


def column(*values: object) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(list(values))])


def events_of(history: GivenHistory) -> list[tuple[int, int]]:
    return list(zip(history.history.items.tolist(), history.history.timestamps.tolist(), strict=True))


def test_row_when_ids_differ_by_zeros_then_are_two_ids() -> None:
    vocabulary = Vocabulary(["007", "7", "x"])
    assert [vocabulary.row(value) for value in ("007", "7", 7, 7.0, " x ", "y", None, "nan")] == [
        *(0, 1, 1, 1, 2),
        *(None, None, None),
    ]


def test_row_when_ids_are_beyond_a_float_then_text_finds_them_and_a_float_does_not() -> None:
    # 2**53 + 1 = 9007199254740993, which a float rounds to its neighbour 9007199254740992
    vocabulary = Vocabulary([9007199254740993, 9007199254740992])
    assert vocabulary.row("9007199254740993") == 0
    assert vocabulary.find([9007199254740993.0]).rows_V.tolist() == [-1]


@given(
    ids=st.lists(st.integers(-20, 20) | st.text("017x", min_size=1, max_size=3), unique_by=str), asked=st.lists(WRITTEN)
)
def test_rows_of_when_looked_up_as_a_column_then_agrees_with_single_values(
    ids: list[int | str], asked: list[str]
) -> None:
    vocabulary = Vocabulary(ids)
    got_V = vocabulary.rows_of(pa.chunked_array([pa.array(asked, pa.string())]), "asked")
    assert got_V.tolist() == vocabulary.find(asked).rows_V.tolist()
    assert got_V.dtype == np.int64


@given(ids=st.lists(st.integers(-99, 99), unique=True), asked=st.lists(st.integers(-99, 99) | st.none()))
def test_rows_of_when_numbers_meet_numbers_then_agrees_with_single_values(
    ids: list[int], asked: list[int | None]
) -> None:
    vocabulary = Vocabulary(ids)
    for kind in (pa.int64(), pa.float64()):
        got_V = vocabulary.rows_of(pa.chunked_array([pa.array(asked, kind)]), "asked")
        assert got_V.tolist() == vocabulary.find(asked).rows_V.tolist()


def test_rows_of_when_one_value_is_null_then_the_floats_it_makes_are_the_same_ids() -> None:
    vocabulary = Vocabulary([7, 8])
    assert vocabulary.rows_of(column(8.0, None, 7.0), "users").tolist() == [1, -1, 0]


def test_find_when_ids_are_unknown_then_names_each_once_in_order() -> None:
    found = Vocabulary(["a", "b"]).find(["z", "b", "y", "z", True])
    assert found.rows_V.tolist() == [-1, 1, -1, -1, -1]
    assert found.unknown == ("z", "y", "True")


def test_history_when_times_are_missing_then_they_are_the_serving_moment() -> None:
    vocabulary = Vocabulary(["a", "b", "c"])
    given_events = [
        GivenEvent(item_id="a"),
        GivenEvent(item_id="c", timestamp=MOMENT - 5),
        GivenEvent(item_id="new"),
        GivenEvent(item_id="b"),
    ]
    got = vocabulary.history(given_events, moment=MOMENT)
    # c is before the moment; a and b are at it, in the order given
    assert events_of(got) == [(2, MOMENT - 5), (0, MOMENT), (1, MOMENT)]
    assert got.unknown == ("new",)
    before = int(time.time())
    (now,) = vocabulary.history([GivenEvent(item_id="a")]).history.timestamps.tolist()
    assert before <= now <= time.time()


def test_history_when_a_time_is_in_milliseconds_then_says_so() -> None:
    with pytest.raises(CallError, match="unix seconds, got 1700000000000 for item 'a'; divide milliseconds"):
        Vocabulary(["a"]).history([GivenEvent(item_id="a", timestamp=MOMENT * 1000)])


def test_history_when_nothing_is_given_then_is_empty() -> None:
    got = Vocabulary(["a"]).history([])
    assert events_of(got) == []
    assert got.history.items.dtype == np.int64


def test_parse_history_when_times_and_quotes_stand_in_it_then_reads_them() -> None:
    vocabulary = Vocabulary(["a", "b,c", "d@7", "x@y"])
    events = vocabulary.parse_history('a@12, "b,c",d@7 ,x@y,x@y@3,q@ 5,,')
    assert [(event.item_id, event.timestamp) for event in events] == [
        *(("a", 12), ("b,c", None), ("d@7 ", None), ("x@y", None)),  # d@7 is an id of the vocabulary
        *(("x@y", 3), ("q@ 5", None)),
    ]
    assert vocabulary.parse_history("") == []


@given(items=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.none() | st.integers(0, 99))))
def test_parse_history_when_written_then_comes_back(items: list[tuple[str, int | None]]) -> None:
    text = ",".join(item if at is None else f"{item}@{at}" for item, at in items)
    events = Vocabulary(["a", "b", "c"]).parse_history(text)
    assert [(event.item_id, event.timestamp) for event in events] == items


def test_extended_when_ids_are_new_then_old_rows_stay() -> None:
    longer = Vocabulary([4, 2]).extended([9])
    assert [longer.row(value) for value in (4, 2, 9)] == [0, 1, 2]
    for ids, named in (([2], "'2'"), ([9, "9"], "'9'")):
        with pytest.raises(DataError, match=named):
            Vocabulary([4, 2]).extended(ids)


def test_vocabulary_when_given_as_a_column_then_is_the_same_as_from_a_list() -> None:
    for ids in ([4, 2], ["4", "02"]):
        listed, held = Vocabulary(ids), Vocabulary(column(*ids))
        assert (len(held), list(held.ids)) == (2, ids)
        assert [held.row(value) for value in ("2", "02", 4)] == [listed.row(value) for value in ("2", "02", 4)]
        asked = column("02", "4", "x")
        assert held.rows_of(asked, "x").tolist() == listed.rows_of(asked, "x").tolist()


def test_to_arrow_when_ids_are_numbers_then_stays_numbers() -> None:
    assert Vocabulary([4, 2]).to_arrow().type == pa.int64()
    assert Vocabulary([4, "02"]).to_arrow().to_pylist() == ["4", "02"]
