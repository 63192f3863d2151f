"""Tests of the tokenizer's quality: what codebooks say about each other, experts, categories, and the bounds."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score

from recsys.core.errors import TokenizerError
from recsys.tokenizer.quality import Quality, QualityConfig, ReferenceData, check, expert_overlap, information, measure


def grid(left: int, right: int, times: int) -> np.ndarray:
    """Every pair of codes equally often: the two columns are independent to the last item."""
    return np.repeat(np.array([(a, b) for a in range(left) for b in range(right)]), times, axis=0)


def test_information_when_columns_are_independent_then_zero_and_when_equal_then_one():
    codes_NM = grid(4, 4, 50)
    codes_NM = np.column_stack([codes_NM, 3 - codes_NM[:, 0]])  # the third column renames the first
    result_MM = information(codes_NM, codes_NM, seed=1)
    # columns 0 and 1: MI = log 4 + log 4 - log 16 = 0, so only chance is left, which is below (3 * 3) / (2 * 800) nats
    assert result_MM[0, 1] == pytest.approx(0.0, abs=9 / 1600 / np.log(4) * 2)
    assert result_MM[0, 2] == pytest.approx(1.0, abs=1e-12)
    assert (np.diag(result_MM) == 1).all()
    np.testing.assert_array_equal(result_MM, result_MM.T)


def test_information_when_one_column_is_coarser_then_the_hand_value():
    # 800 items, left 4 equal codes, right the pair it belongs to: MI = log 2, mean entropy = (log 4 + log 2) / 2,
    # so log 2 / (1.5 log 2) = 2/3; the chance term is below 3 / 1600 nats
    left_N = np.repeat(np.arange(4), 200)
    result = information(left_N[:, None], (left_N // 2)[:, None], seed=1)
    assert result.shape == (1, 1)
    assert result[0, 0] == pytest.approx(2 / 3, abs=0.003)


def test_information_when_many_codes_on_few_items_then_chance_is_taken_out():
    rng = np.random.default_rng(3)
    codes_NM = rng.integers(0, 64, (600, 4))
    result_MM = information(codes_NM, codes_NM, seed=1)
    assert np.abs(result_MM - np.eye(4)).max() < 0.05  # plain normalised information of such columns is about .5


@given(st.integers(0, 2**31), st.integers(2, 20), st.floats(0, 1))
def test_information_when_against_the_exact_expectation_then_close(seed: int, size: int, noise: float):
    rng = np.random.default_rng(seed)
    left_N = rng.integers(0, size, 500)
    right_N = np.where(rng.random(500) < noise, rng.integers(0, size, 500), left_N)
    got = information(left_N[:, None], right_N[:, None], seed=seed)[0, 0]
    assert got == pytest.approx(adjusted_mutual_info_score(left_N, right_N), abs=0.03)


def test_information_when_a_column_is_constant_or_all_different_then_zero():
    codes_NM = np.column_stack([np.zeros(50, np.int64), np.arange(50), np.arange(50) % 2])
    result_MM = information(codes_NM, codes_NM, seed=1)
    # a constant has no entropy; a number of its own for every item says as much about a shuffled column as about it
    np.testing.assert_allclose(result_MM, np.eye(3), atol=1e-9)


def test_information_when_the_seed_is_the_same_then_so_is_the_result():
    codes_NM = np.random.default_rng(0).integers(0, 9, (200, 3))
    first, again = (information(codes_NM, codes_NM, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, information(codes_NM, codes_NM, seed=6))


def test_expert_overlap_when_hand_directions_then_hand_cosines():
    # two experts of two directions: e1, e2 and e1, (e1 + e2); cosines between experts 1, 1/sqrt 2, 0, 1/sqrt 2
    experts_FW = np.array([[1.0, 0, -2, 1], [0, 1, 0, 1], [0, 0, 0, 0]])
    assert expert_overlap(experts_FW, 2) == pytest.approx((1 + 2 / np.sqrt(2)) / 4)
    assert expert_overlap(np.eye(4), 2) == 0.0
    assert expert_overlap(experts_FW, 1) == 0.0
    with pytest.raises(ValueError, match="equal blocks of columns for 3 codebooks, got 4"):
        expert_overlap(experts_FW, 3)


def test_expert_overlap_when_a_direction_is_zero_then_it_overlaps_nothing():
    assert expert_overlap(np.array([[1.0, 0], [0, 0]]), 2) == 0.0


def good(**changes) -> Quality:
    """Two independent codebooks of four codes, orthogonal experts, categories that the first codebook names."""
    codes_NM = grid(4, 4, 10) if "codes_NM" not in changes else changes.pop("codes_NM")
    vectors_NF = np.eye(4, dtype=np.float32)[codes_NM[:, 0]]
    reference = ReferenceData(experts_FW=np.eye(4), category_N=codes_NM[:, 0], seed=3)
    quality = measure(codes_NM, vectors_NF, vectors_NF * changes.pop("shrink", 1), 4, reference=reference)
    return Quality(**({name: getattr(quality, name) for name in quality.__dataclass_fields__} | changes))


def config(**bounds) -> QualityConfig:
    return QualityConfig(**({"max_collision_rate": 1.0} | bounds))


def test_measure_when_experts_and_categories_are_given_then_json_has_them():
    values = good().to_json()
    assert {"items", "collision_rate", "reconstruction_error", "codebooks"} < set(values)
    assert values["expert_overlap"] == 0.0
    # the categories are the first codebook, and the second is independent of it
    assert values["category_agreement"] == [pytest.approx(1.0), pytest.approx(0.0, abs=0.1)]
    assert values["mutual_information"]["max"] == pytest.approx(values["mutual_information"]["matrix"][0][1], abs=1e-6)
    assert values["mutual_information"]["mean"] == values["mutual_information"]["max"]  # there is one pair


def test_measure_when_nothing_beside_is_given_then_those_figures_are_none():
    vectors_NF = np.ones((4, 2), np.float32)
    values = measure(np.zeros((4, 1), np.int64), vectors_NF, vectors_NF, 4).to_json()
    assert values["expert_overlap"] is None
    assert values["category_agreement"] is None
    assert values["mutual_information"] == {"mean": 0.0, "max": 0.0, "matrix": [[1.0]]}


def test_check_when_all_is_well_then_silent():
    check(good(), config())


RENAMED = np.column_stack([grid(4, 4, 10)[:, 0], 3 - grid(4, 4, 10)[:, 0]])
FAILURES = [
    ({"codes_NM": grid(2, 2, 10)}, {"min_use": 0.9}, "use of codebook 0 .*tokenizer.codebook_size"),
    ({}, {"min_use": 0, "min_perplexity_share": 1.0, "codes": 8}, "perplexity of codebook 0 .*tokenizer.codebook_size"),
    ({}, {"max_collision_rate": 0.005}, "collision rate .*tokenizer.resolve_collisions"),
    ({"shrink": 0}, {}, "reconstruction error .*tokenizer.epochs"),
    ({"codes_NM": RENAMED}, {}, "mean mutual information at most 0.6, got 1.000; raise tokenizer.orthogonality"),
    (
        {"codes_NM": RENAMED},
        {"max_mean_information": 1.0},
        "codebooks 0 and 1 .* at most 0.9, got 1.000; raise tokenizer.orthogonality",
    ),
    ({"expert_overlap": 0.7}, {}, "overlap of the experts .*got 0.700; .*tokenizer.width"),
    (
        {"category_agreement_M": np.array([0.3, 0.1])},
        {"min_category_agreement": 0.25},
        "agree with the categories by at least 0.25, got 0.200; .*features.width",
    ),
]


@pytest.mark.parametrize(("changes", "bounds", "message"), FAILURES)
def test_check_when_a_bound_is_broken_then_the_error_names_the_knob(changes: dict, bounds: dict, message: str):
    changes, bounds = dict(changes), dict(bounds)
    if size := bounds.pop("codes", None):
        changes["codebook_size"] = size  # more codes than the perplexity of 4 that four equal codes have
    with pytest.raises(TokenizerError, match=re.compile(message)):
        check(good(**changes), config(**bounds))


def test_check_when_agreement_is_below_chance_then_a_bound_of_zero_asks_for_nothing():
    check(good(category_agreement_M=np.array([-0.01, -0.02])), config())


def test_measure_when_given_nearest_reconstructions_then_says_what_resolving_cost() -> None:
    # two items at -1 and 1: variance 2; resolved codes rebuild them at -1 and 0, error 1 / 2; nearest ones exactly
    vectors = np.array([[-1.0], [1.0]], np.float32)
    quality = measure(
        np.array([[0], [1]]),
        vectors,
        np.array([[-1.0], [0.0]], np.float32),
        2,
        reference=ReferenceData(nearest_NF=vectors),
    ).to_json()
    assert quality["reconstruction_error"] == 0.5
    assert quality["reconstruction_error_before"] == 0.0
