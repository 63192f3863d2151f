"""Reasoning Pruning against values worked by hand and against known distributions."""

import numpy as np
import pytest

from recsys.decoding.reasoning_pruning import in_lower_part, likely_paths, weibull_density, weibull_fit


def test_mean_rule_when_paths_lie_below_their_rows_mean_then_they_go() -> None:
    row_P = np.array([0, 0, 0, 1, 1])
    prob_P = np.array([0.5, 0.2, 0.1, 0.01, 0.01])
    # the means are .267 and .01
    assert likely_paths(row_P, np.log(prob_P), "mean").tolist() == [True, False, False, True, True]


def test_no_rule_when_asked_then_all_paths_stay() -> None:
    assert likely_paths(np.zeros(3, np.int64), np.log([0.9, 0.05, 0.05]), "none").all()


def test_weibull_rule_when_probabilities_are_of_two_sizes_then_the_small_ones_go() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.uniform(0.0008, 0.0012, 40), rng.uniform(0.02, 0.03, 12)
    prob_P = rng.permutation(np.concatenate([small, large]))
    keep_P = likely_paths(np.zeros(52, np.int64), np.log(prob_P), "weibull")
    np.testing.assert_array_equal(keep_P, prob_P > 0.01)


@pytest.mark.parametrize("prob_P", [[0.5], [0.1, 0.2, 0.7], [0.25] * 4])
def test_weibull_rule_when_there_is_nothing_to_tell_apart_then_all_paths_stay(prob_P: list[float]) -> None:
    assert likely_paths(np.zeros(len(prob_P), np.int64), np.log(prob_P), "weibull").all()
    assert not in_lower_part(np.array(prob_P)).any()


@pytest.mark.parametrize(("shape", "scale"), [(0.7, 2.0), (1.0, 0.1), (3.0, 5.0)])
def test_weibull_fit_when_values_are_drawn_from_one_then_shape_and_scale_are_found(shape: float, scale: float) -> None:
    value_P = scale * np.random.default_rng(1).weibull(shape, 20_000)
    found = weibull_fit(value_P, np.ones(len(value_P)))
    # the error of both is about one percent at twenty thousand values
    assert found == pytest.approx((shape, scale), rel=0.05)


def test_weibull_density_when_shape_is_one_then_it_is_the_exponential_density() -> None:
    value_P = np.array([0.1, 1.0, 3.0])
    np.testing.assert_allclose(weibull_density(value_P, 1.0, 2.0), np.exp(-value_P / 2) / 2)
