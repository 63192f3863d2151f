"""From reached items to slates."""

import numpy as np

from recsys.decoding.evidence import RankedItems, merge


def test_merge_when_head_ties_at_the_edge_then_the_lower_index_comes_first():
    found = RankedItems(item_S=np.array([4]), score_S=np.array([-1.0], np.float32), reached_S=np.array([7]))
    head_N = np.array([-2, -2, -2, -0.5, -9, -2], np.float32)
    got = merge(found, head_N, np.array([4]), None, n=4)
    assert got.item_S.tolist() == [3, 4, 0, 1]
    assert got.reached_S.tolist() == [-1, 7, -1, -1]
