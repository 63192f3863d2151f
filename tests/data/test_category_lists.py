"""Categories in every way people write them."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.category_lists import category_lists


@pytest.mark.parametrize(
    "text",
    [
        "home|light",
        " home | light ",
        "home|light|",
        "home > light",
        '["home", "light"]',
        "['home', 'light']",
        '[["home", "light"], ["other"]]',
        "[' home', None, 'light', '']",
    ],
)
def test_category_lists_when_written_in_any_way_then_are_the_same_words(text: str) -> None:
    assert category_lists(pa.chunked_array([[text, None]])).to_pylist() == [["home", "light"], None]


@pytest.mark.parametrize("text", ["", "  ", "nan", "NULL", "None"])
def test_category_lists_when_the_text_stands_for_nothing_then_null(text: str) -> None:
    assert category_lists(pa.chunked_array([[text]])).to_pylist() == [None]


def test_category_lists_when_brackets_hold_no_list_then_stay_text() -> None:
    assert category_lists(pa.chunked_array([["[new]", "a, b"]])).to_pylist() == [["[new]"], ["a, b"]]


def test_category_lists_when_lists_then_are_trimmed_and_the_first_of_several_counts() -> None:
    flat = pa.chunked_array([pa.array([["a ", None, ""], None], pa.large_list(pa.string()))])
    assert category_lists(flat).to_pylist() == [["a"], None]
    nested = pa.chunked_array([pa.array([[["a", "b"], ["c"]]], pa.list_(pa.list_(pa.string())))])
    assert category_lists(nested).to_pylist() == [["a", "b"]]


@given(st.lists(st.none() | st.text(max_size=12), max_size=8))
def test_category_lists_when_any_text_then_one_value_a_row(values: list[str | None]) -> None:
    lists = category_lists(pa.chunked_array([pa.array(values, pa.string())])).to_pylist()
    assert len(lists) == len(values)
    assert all(value is None or all(word == word.strip() for word in value) for value in lists)
