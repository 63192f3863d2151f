"""Items of a log beside items of a table: counted, shown, guessed, refused when mostly apart."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.errors import DataError
from recsys.data.joins import join_items
from recsys.data.options import ImportOptions
from recsys.data.table import build_dataset


def _join(log: list[str], table: list[str]) -> str:
    return str(join_items(pa.array(log, pa.string()), pa.array(table, pa.string())))


@pytest.mark.parametrize(
    ("log", "table", "guess"),
    [
        (["1", "2"], ["001", "002"], "zeros in front were lost"),
        (["ab", "cd"], ["AB", "CD"], "capitals differ"),
        (["cafe\u0301"], ["caf\u00e9"], "accents are composed"),
        (["a-1", "b-2"], ["a1", "b2"], "blanks or signs differ"),
    ],
)
def test_join_items_when_ids_differ_by_a_rule_then_it_is_guessed(log: list[str], table: list[str], guess: str) -> None:
    assert f"perhaps {guess}" in _join(log, table)


def test_join_items_when_some_are_apart_then_both_sides_are_counted_with_an_example() -> None:
    # x is in no table row; 8 and 9 are in no event
    assert _join(["1", "2", "x"], ["1", "2", "8", "9"]) == (
        "1 of 3 items of the log have no metadata (e.g. 'x'); 2 of 4 items with metadata are in no event (e.g. '8')"
    )


@given(st.sets(st.text(max_size=3), min_size=1), st.sets(st.text(max_size=3)))
def test_join_items_when_any_ids_then_counts_are_set_differences(log: set[str], table: set[str]) -> None:
    join = join_items(pa.array(sorted(log), pa.string()), pa.array(sorted(table), pa.string()))
    assert (join.without_metadata, join.never_used) == (len(log - table), len(table - log))
    assert join.mostly_apart == (len(log - table) > len(log) / 2)


def test_build_dataset_when_most_items_have_no_metadata_then_is_refused_unless_allowed() -> None:
    rows = pa.table({"user_id": [1, 1, 2], "item_id": [1, 2, 3], "timestamp": [1, 2, 3]})
    items = pa.table({"item_id": ["001", "002", "3"], "title": ["a", "b", "c"]})
    with pytest.raises(DataError, match=r"2 of 3 items of the log have no metadata.*zeros.*--allow-unmatched"):
        build_dataset(rows, items, where="test", options=ImportOptions())
    dataset = build_dataset(rows, items, where="test", options=ImportOptions(allow_unmatched=True))
    assert dataset.items["item_id"].to_pylist() == ["001", "002", "3", "1", "2"]
    assert any("2 of 3 items of the log" in note for note in dataset.notes)
