"""What a batch cache computes again, and what it hands out."""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.recommender.batch_cache import BatchCache


class CountedSum:
    """The items of each history summed, and how often that was computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, histories: Sequence[History]) -> IntArray:
        self.calls += 1
        return np.array([history.items.sum() for history in histories])


def _history(*items: int, day: int = 0) -> History:
    return History(items=np.array(items), timestamps=np.arange(len(items)) + 86_400 * day)


def test_cache_when_an_equal_batch_comes_again_then_the_same_result_is_returned_and_its_seconds_are_saved() -> None:
    function = CountedSum()
    cached = BatchCache(function)
    first = cached([_history(1, 2), _history(3)])
    assert cached.saved_seconds == 0
    assert cached([_history(1, 2), _history(3)]) is first
    np.testing.assert_array_equal(first, [3, 3])
    assert function.calls == 1
    assert cached.saved_seconds > 0


def test_cache_when_order_times_or_parting_differ_then_each_batch_is_computed() -> None:
    function = CountedSum()
    cached = BatchCache(function)
    batches = [
        [_history(1, 2), _history(3)],
        [_history(3), _history(1, 2)],
        [_history(1), _history(2, 3)],
        [_history(1, 2, day=1), _history(3)],
        [_history(1, 2)],
        [_history(), _history(1, 2)],
        [],
    ]
    for batch in batches:
        np.testing.assert_array_equal(cached(batch), [history.items.sum() for history in batch])
    assert function.calls == len(batches)


def test_cache_when_more_batches_come_than_are_kept_then_the_oldest_is_computed_again() -> None:
    function = CountedSum()
    cached = BatchCache(function, batches=2)
    one, two, three = [_history(1)], [_history(2)], [_history(3)]
    for batch in (one, two, three, two, three):
        cached(batch)
    assert function.calls == 3
    cached(one)
    assert function.calls == 4
