"""Requests, what they admit, and slates cut to length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import History, Path, Request, Slate, eligible_items, empty_history, requests_for

ITEMS = 8


def history(*items: int) -> History:
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)))


def test_request_when_no_item_is_wanted_then_says_so() -> None:
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        Request(history=empty_history(), n=0)


@given(
    asked=st.lists(
        st.tuples(
            st.lists(st.integers(0, ITEMS - 1)),
            st.booleans(),
            st.none() | st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS),
        ),
        max_size=4,
    )
)
def test_eligible_items_when_requests_differ_then_each_has_its_own_rule(
    asked: list[tuple[list[int], bool, list[bool] | None]],
) -> None:
    requests = [
        Request(history=history(*items), keep_seen=keep, eligible_N=None if mask is None else np.array(mask))
        for items, keep, mask in asked
    ]
    got_BN = eligible_items(requests, ITEMS)
    slow = [
        [(mask is None or mask[item]) and (keep or item not in items) for item in range(ITEMS)]
        for items, keep, mask in asked
    ]
    assert got_BN.shape == (len(asked), ITEMS)
    assert got_BN.tolist() == slow


def test_requests_for_when_given_histories_then_each_is_asked_alike() -> None:
    mask_N = np.array([True, False])
    first, second = requests_for([history(0), empty_history()], n=3, keep_seen=True, eligible_N=mask_N)
    assert first.history.items.tolist() == [0]
    assert second.history.items.tolist() == []
    assert [(one.n, one.keep_seen, one.eligible_N is mask_N) for one in (first, second)] == [(3, True, True)] * 2


def test_slate_when_cut_then_keeps_the_best_with_their_paths() -> None:
    path = Path(steps=(), log_prob=-1.0)
    slate = Slate(items=np.array([4, 2, 7]), scores=np.array([3.0, 2.0, 1.0]), paths=((path,), (), (path, path)))
    cut = slate.first(2)
    assert cut.items.tolist() == [4, 2]
    assert cut.scores.tolist() == [3.0, 2.0]
    assert cut.paths == ((path,), ())
    assert slate.first(9) is slate
