"""Exact top items by sums of code logits, the pruned way against the readable one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.codes.token_sums import token_sums, top_by_bounds, top_items


def test_token_sums_when_codes_are_looked_up_then_each_item_has_the_sum_of_its_own() -> None:
    # item 0 has codes (1, 0): 2 + 10; item 1 has (0, 2): 1 + 30
    scores_N = token_sums(np.array([[1, 0], [0, 2]], np.uint8), np.array([[1, 2, 3], [10, 20, 30]], np.float32))
    np.testing.assert_array_equal(scores_N, [12, 31])


def test_top_items_when_scores_are_equal_then_the_lower_index_is_first() -> None:
    np.testing.assert_array_equal(top_items(np.array([1, 3, 3, 2, 3], np.float32), 3), [1, 2, 4])
    assert len(top_items(np.empty(0, np.float32), 3)) == 0


@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 300),
    books=st.integers(1, 9),
    n=st.integers(1, 20),
    spread=st.sampled_from([0.0, 0.1, 1.0, 30.0]),
)
def test_bounds_when_they_drop_items_then_the_best_are_those_of_all_sums(
    seed: int, items: int, books: int, n: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    codes_MN = rng.integers(0, 6, (books, items)).astype(np.uint8)
    logits_MK = (rng.normal(size=(books, 6)) * spread * rng.random((books, 1))).astype(np.float32)
    found_S, score_S = top_by_bounds(codes_MN, logits_MK, n)
    all_N = token_sums(codes_MN, logits_MK)
    assert len(set(found_S.tolist())) == min(n, items)
    wanted_S = all_N[top_items(all_N, n)]
    np.testing.assert_allclose(score_S, wanted_S, rtol=1e-4, atol=1e-4 * max(1.0, spread))
    np.testing.assert_allclose(all_N[found_S], wanted_S, rtol=1e-4, atol=1e-4 * max(1.0, spread))
