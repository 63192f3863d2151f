"""Places that are kept for some items: which ones, who gets them, and scores that say the order of the slate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.arrays import IntArray
from recsys.decoding.evidence import RankedItems
from recsys.decoding.kept_places import KeptPlaces, fill_places, kept_places

SHARES = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.29, 0.3, 0.5, 0.7, 1.0])
SCORES = st.lists(st.sampled_from([-1.0, -1.5, -2.0, -4.0, -9.0, -1e30]), max_size=12)


def _ranked(scores: list[float], first: int) -> RankedItems:
    """Return a ranking of items from ``first`` on, best first; every other item was reached."""
    item_S = first + np.arange(len(scores))
    score_S = np.sort(np.array(scores, np.float32))[::-1]
    return RankedItems(item_S=item_S, score_S=score_S, reached_S=np.where(item_S % 2, -1, item_S + 500))


def _one_by_one(others: list[int], kept_for: list[int], share: float, n: int) -> list[int]:
    """Fill place after place: a kept one by an item that it is kept for, another by the others, or by what is left."""
    slate: list[int] = []
    others, kept_for = list(others), list(kept_for)
    for place in range(1, n + 1):
        kept = int(share * place + 1e-9) > int(share * (place - 1) + 1e-9)
        first, second = (kept_for, others) if kept else (others, kept_for)
        if first or second:
            slate.append((first or second).pop(0))
    return slate


@pytest.mark.parametrize(
    ("share", "n", "places"),
    [
        (0.0, 10, []),
        (0.1, 10, [10]),
        (0.2, 10, [5, 10]),
        (0.2, 4, []),
        (0.2, 11, [5, 10]),
        (0.3, 10, [4, 7, 10]),  # .3 * 4 = 1.2, .3 * 7 = 2.1
        (0.5, 5, [2, 4]),
        (1.0, 3, [1, 2, 3]),
    ],
)
def test_kept_places_when_a_share_is_kept_then_each_stands_where_its_part_rounded_down_grows(
    share: float, n: int, places: list[int]
) -> None:
    assert (np.flatnonzero(kept_places(share, n)) + 1).tolist() == places


@pytest.mark.parametrize(("share", "n", "count"), [(0.29, 100, 29), (0.7, 10, 7), (0.15, 13, 1)])
def test_kept_places_when_floating_point_falls_short_then_the_count_is_the_share_rounded_down(
    share: float, n: int, count: int
) -> None:
    # in floating point .29 * 100 is 28.999999999999996; .15 * 13 = 1.95
    assert kept_places(share, n).sum() == count


@given(others=SCORES, kept_for=SCORES, share=SHARES, n=st.integers(1, 30))
def test_fill_places_when_one_kind_may_run_out_then_it_is_the_slate_filled_place_by_place(
    others: list[float], kept_for: list[float], share: float, n: int
) -> None:
    one, two = _ranked(others, 0), _ranked(kept_for, 100)
    found = fill_places(one, two, share=share, n=n)
    assert found.item_S.tolist() == _one_by_one(one.item_S.tolist(), two.item_S.tolist(), share, n)
    np.testing.assert_array_equal(found.reached_S, np.where(found.item_S % 2, -1, found.item_S + 500))


@given(others=SCORES, kept_for=SCORES, share=SHARES, n=st.integers(1, 30))
def test_fill_places_when_a_slate_is_shorter_then_it_is_the_beginning_of_the_longer_one(
    others: list[float], kept_for: list[float], share: float, n: int
) -> None:
    one, two = _ranked(others, 0), _ranked(kept_for, 100)
    longer = fill_places(one, two, share=share, n=40)
    shorter = fill_places(one.first(n), two.first(n), share=share, n=n)  # rankings are no longer than the slate
    np.testing.assert_array_equal(shorter.item_S, longer.item_S[:n])
    np.testing.assert_array_equal(shorter.score_S, longer.score_S[:n])


@given(others=SCORES, kept_for=SCORES, share=SHARES, n=st.integers(1, 30))
def test_fill_places_when_two_kinds_meet_then_scores_fall_where_they_meet(
    others: list[float], kept_for: list[float], share: float, n: int
) -> None:
    one, two = _ranked(others, 0), _ranked(kept_for, 100)
    found = fill_places(one, two, share=share, n=n)
    assert found.score_S.dtype == np.float32
    assert np.isfinite(found.score_S).all()
    assert (np.diff(found.score_S) <= 0).all()
    equal = np.flatnonzero(np.diff(found.score_S) == 0)
    assert ((found.item_S[equal] < 100) == (found.item_S[equal + 1] < 100)).all()


def test_fill_places_when_others_are_distinct_then_they_have_their_own_scores_and_kept_places_the_next_lower() -> None:
    others, better = _ranked([-1.0, -2.0, -3.0, -4.0], 0), _ranked([-0.25, -0.5], 100)
    found = fill_places(others, better, share=0.5, n=5)
    assert found.item_S.tolist() == [0, 100, 1, 101, 2]
    below = np.nextafter(np.array([-1, -2], np.float32), np.float32(-np.inf))
    np.testing.assert_array_equal(found.score_S, np.array([-1, below[0], -2, below[1], -3], np.float32))


def test_fill_places_when_others_run_out_then_the_rest_have_their_own_scores() -> None:
    found = fill_places(_ranked([-1.0], 0), _ranked([-2.0, -3.5, -3.5], 100), share=0.2, n=10)
    assert found.item_S.tolist() == [0, 100, 101, 102]
    assert found.score_S.tolist() == [-1.0, -2.0, -3.5, -3.5]


def test_others_when_places_are_kept_then_those_items_are_out_and_the_callers_mask_stays() -> None:
    item_V: IntArray = np.array([1, 3])
    kept, eligible_BN = KeptPlaces(item_V=item_V, share=0.2), np.array([[True, True, False, True]])
    assert kept.others((2, 4), None).tolist() == [[True, False, True, False]] * 2
    assert kept.others((1, 4), eligible_BN).tolist() == [[True, False, False, False]]
    assert eligible_BN.tolist() == [[True, True, False, True]]
