"""Propensities of Plackett-Luce slates against enumeration of all orders and against draws."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.arrays import Float64Array
from recsys.evaluation.off_policy import plackett_luce
from recsys.evaluation.off_policy.plackett_luce import (
    draw_slate,
    next_propensities,
    place_propensities,
    set_propensity,
    weights_of,
)


def by_enumeration(weights: Float64Array, slate: tuple[int, ...]) -> float:
    return sum(float(next_propensities(weights, np.array(order)).prod()) for order in permutations(slate))


def test_next_propensities_when_worked_by_hand_then_agree() -> None:
    # Weights 3, 2, 1: first 3/6, then item 2 of the rest 2 + 1: 1/3.
    assert next_propensities(np.array([3.0, 2, 1]), np.array([0, 2])) == pytest.approx([0.5, 1 / 3])


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=2, max_size=7),
    places=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_set_propensity_when_orders_are_few_then_equals_their_enumeration(
    weights: list[float], places: int, seed: int
) -> None:
    weights_N = np.array(weights)
    slate = np.random.default_rng(seed).permutation(len(weights))[:places]
    found = set_propensity(weights_N, slate)
    assert found.method == "subset dynamic program"
    assert found.value == pytest.approx(by_enumeration(weights_N, tuple(slate.tolist())), rel=1e-9)


@pytest.mark.parametrize("places", [1, 4, 10, 16])
def test_set_propensity_when_computed_over_time_then_equals_the_subset_program(
    places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = np.exp(np.random.default_rng(places).normal(size=40))
    slate = np.arange(places)
    exact = set_propensity(weights, slate)
    monkeypatch.setattr(plackett_luce, "MAX_EXACT_PLACES", 0)
    over_time = set_propensity(weights, slate)
    assert (exact.method, over_time.method) == ("subset dynamic program", "integral")
    assert over_time.value == pytest.approx(exact.value, rel=1e-6)


def test_set_propensity_when_the_slate_is_the_catalogue_then_is_certain() -> None:
    assert set_propensity(np.array([5.0, 1e-9, 2.0]), np.array([2, 0, 1])).value == pytest.approx(1.0)
    assert set_propensity(np.ones(20), np.arange(20)).value == 1.0


def test_draw_slate_when_repeated_then_frequencies_are_the_propensities() -> None:
    weights, rng = weights_of(np.array([1.0, 0.3, -0.5, 0.0]), temperature=0.7), np.random.default_rng(0)
    draws = np.stack([draw_slate(weights, 2, rng) for _ in range(20_000)])
    for order in permutations(range(4), 2):
        wanted = float(next_propensities(weights, np.array(order)).prod())
        share = float((draws == np.array(order)).all(axis=1).mean())
        assert abs(share - wanted) < 4 * (wanted * (1 - wanted) / 20_000) ** 0.5  # four standard errors


def test_place_propensities_when_exact_then_sum_to_one_over_items_and_sampling_agrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, rng = np.array([4.0, 2, 1, 1, 0.5]), np.random.default_rng(1)
    at_second = [float(place_propensities(weights, np.array([(i + 1) % 5, i]), rng=rng).values_S[1]) for i in range(5)]
    assert sum(at_second) == pytest.approx(1.0)
    slate = np.array([2, 0, 3])
    exact = place_propensities(weights, slate, rng=rng)
    monkeypatch.setattr(plackett_luce, "MAX_EXACT_SUBSETS", 0)
    sampled = place_propensities(weights, slate, rng=rng, samples=20_000)
    assert (exact.method, sampled.method) == ("exact", "sampled")
    assert sampled.values_S == pytest.approx(exact.values_S, abs=0.005)


def test_weights_when_temperature_is_zero_then_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        weights_of(np.array([1.0, 2.0]), temperature=0.0)
