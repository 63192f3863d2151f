"""The state of a beam."""

import numpy as np

from recsys.decoding.paths import deduplicate


def test_deduplicate_when_orders_differ_then_the_better_path_of_the_same_codes_stays():
    row_P = np.array([0, 0, 0, 1])
    codes_PM = np.array([[1, 2, -1], [1, -1, 2], [1, 2, -1], [1, 2, -1]])
    kept = deduplicate(row_P, codes_PM, np.array([-3.0, -2.5, -2.0, -4.0]))
    assert kept.tolist() == [1, 2, 3]
