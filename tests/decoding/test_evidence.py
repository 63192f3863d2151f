"""From reached items to slates."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.decoding.evidence import RankedItems, best_slates, merge


def test_merge_when_head_ties_at_the_edge_then_the_lower_index_comes_first():
    found = RankedItems(item_S=np.array([4]), score_S=np.array([-1.0], np.float32), reached_S=np.array([7]))
    head_N = np.array([-2, -2, -2, -0.5, -9, -2], np.float32)
    got = merge(found, head_N, np.array([4]), None, n=4)
    assert got.item_S.tolist() == [3, 4, 0, 1]
    assert got.reached_S.tolist() == [-1, 7, -1, -1]


@given(
    scores=st.lists(st.sampled_from([-3.0, -2.0, -1.0, -0.5]), min_size=1, max_size=200),
    barred=st.sets(st.integers(0, 199)),
    n=st.integers(1, 220),
)
def test_best_slates_when_scores_tie_then_are_those_of_a_stable_sort(
    scores: list[float], barred: set[int], n: int
) -> None:
    eligible_N = np.array([item not in barred for item in range(len(scores))])
    (slate,) = best_slates(np.array([scores], np.float32), eligible_N[None], n=n)
    ranked = sorted((item for item in range(len(scores)) if eligible_N[item]), key=lambda item: (-scores[item], item))
    assert slate.items.tolist() == ranked[:n]
