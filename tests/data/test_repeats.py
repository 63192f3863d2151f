"""Repeated rows, against a loop over tuples."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import repeats
from recsys.data.repeats import repeated

ROWS = st.lists(
    st.tuples(st.integers(-2, 2), st.none() | st.sampled_from(["a", "b", ""]), st.none() | st.integers(0, 1)),
    max_size=30,
)


def _slowly(rows: list[tuple[object, ...]]) -> list[bool]:
    return [row in rows[:place] for place, row in enumerate(rows)]


def _columns(rows: list[tuple[int, str | None, int | None]]) -> list[pa.ChunkedArray | pa.Array]:
    numbers, words, maybe = ([row[place] for row in rows] for place in range(3))
    half = len(rows) // 2
    chunks = pa.chunked_array([pa.array(part, pa.string()) for part in (words[:half], words[half:])])
    return [pa.array(numbers, pa.int64()), chunks, pa.array(maybe, pa.int64())]


@given(ROWS)
def test_repeated_when_rows_are_any_then_as_a_loop_says(rows: list[tuple[int, str | None, int | None]]) -> None:
    assert repeated(_columns(rows)).tolist() == _slowly(list(rows))


def test_repeated_when_all_hashes_are_equal_then_rows_that_differ_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repeats, "_FACTOR", 0)  # every hash is 0
    rows: list[tuple[int, str | None, int | None]] = [(1, "a", 0), (1, "a", 1), (1, "a", 0), (1, None, 0), (1, None, 0)]
    assert repeated(_columns(rows)).tolist() == [False, False, True, False, True]


def test_hashes_when_rows_are_many_and_near_each_other_then_they_differ() -> None:
    # 200,000 users x items near each other, as ids are: 64 bits leave no two alike
    user_E, item_E = (each.ravel() for each in np.meshgrid(np.arange(1000), np.arange(200)))
    hash_E = repeats._hashes([pa.chunked_array([pa.array(column)]) for column in (user_E, item_E)])
    assert len(np.unique(hash_E)) == 200_000
