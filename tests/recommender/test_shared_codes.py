"""Items scored by the codes that they share with what a user chose last."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import History, empty_history
from recsys.core.arrays import IntArray
from recsys.recommender.shared_codes import DECAY, EVENTS, SharedCodes


def _history(items: list[int]) -> History:
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)))


def _slowly(codes_NM: IntArray, item: int, history: History) -> float:
    """Sum over events, the latest first: the share of codebooks in which the item has the code of the event's item."""
    total = 0.0
    for back, event in enumerate(reversed(history.items.tolist())):
        if back < EVENTS:
            total += DECAY**back * float((codes_NM[item] == codes_NM[event]).mean())
    return total


@given(seed=st.integers(0, 10_000), events=st.lists(st.integers(0, 19), max_size=12))
def test_scores_when_a_history_is_any_then_they_are_the_sums_of_the_slow_way(seed: int, events: list[int]) -> None:
    rng = np.random.default_rng(seed)
    codes_NM, item_I = rng.integers(0, 4, (20, 5)), rng.permutation(20)[:7]
    score_I = SharedCodes(codes_NM, item_I, weight=3.0)([_history(events)])[0]
    assert score_I.dtype == np.float32
    np.testing.assert_allclose(
        score_I, [3 * _slowly(codes_NM, item, _history(events)) for item in item_I.tolist()], rtol=1e-6
    )


def test_scores_when_codes_are_shared_then_the_latest_event_counts_most_and_no_event_nothing() -> None:
    codes_NM = np.array([[0, 0], [1, 1], [0, 1]])
    shared = SharedCodes(codes_NM, np.array([2, 0]), weight=8.0)
    # item 2 has half of the codes of each; item 0 has all of its own and none of item 1's
    found = shared([_history([0, 1]), _history([1, 0]), empty_history()])
    np.testing.assert_allclose(found, [[4 + 4 * DECAY, 8 * DECAY], [4 + 4 * DECAY, 8], [0, 0]], rtol=1e-6)


def test_scores_when_an_event_is_older_than_those_that_count_then_it_counts_nothing() -> None:
    codes_NM = np.array([[0], [1]])
    shared = SharedCodes(codes_NM, np.array([1]))
    assert shared([_history([1] + [0] * EVENTS)])[0, 0] == 0
    assert shared([_history([1] + [0] * (EVENTS - 1))])[0, 0] == pytest.approx(DECAY ** (EVENTS - 1))
