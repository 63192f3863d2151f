"""The vectorised functions against those of the C library."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.runtime.functions import exponential, gelu, log_softmax

FLOATS = st.floats(-80, 80, width=32)


@given(FLOATS)
def test_exponential_when_asked_then_is_within_two_roundings_of_the_library(x: float) -> None:
    assert abs(exponential(np.float32(x)) / math.exp(x) - 1) < 3e-7


def test_exponential_when_asked_for_far_less_than_a_float_holds_then_is_about_zero() -> None:
    assert 0 <= exponential(np.float32(-np.inf)) < 1e-37


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40))
def test_gelu_when_applied_then_is_x_times_the_normal_distribution(values: list[float]) -> None:
    x_XX = np.array([values], np.float32)
    gelu(x_XX)
    expected = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in values]
    np.testing.assert_allclose(x_XX[0], expected, atol=1e-6, rtol=1e-6)


def test_log_softmax_when_applied_then_probabilities_sum_to_one_and_keep_their_ratios() -> None:
    # e^0 : e^1 : e^3, over their sum 1 + 2.71828 + 20.08554 = 23.80382
    logits_X = np.array([0, 1, 3, -np.inf], np.float32)
    log_softmax(logits_X)
    np.testing.assert_allclose(np.exp(logits_X), [1 / 23.80382, 2.71828 / 23.80382, 20.08554 / 23.80382, 0], rtol=1e-5)


def test_log_softmax_when_a_logit_is_not_a_number_then_nothing_looks_like_one() -> None:
    logits_X = np.array([0, np.nan, 3], np.float32)
    log_softmax(logits_X)
    assert np.isnan(logits_X).any()
