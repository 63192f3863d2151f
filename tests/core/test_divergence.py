"""The Jensen-Shannon divergence by hand, and as it must be for any two distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.divergence import js_divergence


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_js_divergence_when_worked_out_by_hand_then_agrees_in_its_arguments_precision(kind: type) -> None:
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): KL(p|m) = log2(4/3) = .415037;
    # KL(q|m) = 1/2 log2(2/3) + 1/2 log2(2) = .207519; JS = (.415037 + .207519) / 2 = .311278.
    p_XV = np.array([[1, 0], [1, 0], [0.3, 0.7]], kind)
    q_XV = np.array([[0.5, 0.5], [0, 1], [0.3, 0.7]], kind)
    found_X = js_divergence(p_XV, q_XV)
    np.testing.assert_allclose(found_X, [0.311278, 1.0, 0.0], atol=1e-6)
    assert found_X.dtype == kind
    # q = (.3, .7), m = (.65, .35): KL(p|m) = log2(1/.65) = .621488; KL(q|m) = .3 log2(.3/.65) + .7 log2(2) = .365357
    np.testing.assert_allclose(js_divergence(p_XV[0], q_XV), [0.311278, 1.0, 0.493423], atol=1e-6)


def test_js_divergence_when_a_share_is_the_least_positive_number_then_it_counts_as_none() -> None:
    # half of 1.4e-45, the mean's share, is 0 in float32: a division by it made this divergence 1
    p_XV, q_XV = np.array([[1, np.float32(1.4e-45)]], np.float32), np.array([[1, 0]], np.float32)
    assert p_XV[0, 1] > 0
    assert js_divergence(p_XV, q_XV).tolist() == [0.0]


@given(counts=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6))
def test_js_divergence_when_sides_change_then_is_the_same_and_between_0_and_1(counts: list[tuple[int, int]]) -> None:
    a_V, b_V = (np.array(side, np.float64) / sum(side) for side in zip(*counts, strict=True))
    assert js_divergence(a_V, b_V) == pytest.approx(js_divergence(b_V, a_V))
    assert 0 <= js_divergence(a_V, b_V) <= 1
    assert js_divergence(a_V, a_V) == pytest.approx(0.0)
