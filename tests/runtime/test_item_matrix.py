"""Products in whole numbers beside those of float64, within the bound that the module states."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.runtime.item_matrix import ItemMatrix, item_products, unit_of


def _bound(query_D: np.ndarray, vectors_ND: np.ndarray) -> np.ndarray:
    """Return half a unit of each number, times what it is multiplied with, and what rounding to float32 adds."""
    half_N = np.abs(vectors_ND).max(axis=1) / 65_534
    half = np.abs(query_D).max() / 65_534
    lengths_N = np.linalg.norm(query_D) * np.linalg.norm(vectors_ND, axis=1)
    return (half_N + 1e-9) * np.abs(query_D).sum() + half * (np.abs(vectors_ND).sum(axis=1) + 1e-9) + 1e-5 * lengths_N


@given(
    items=st.sampled_from([1, 2, 63, 64, 65, 130, 200]),
    width=st.sampled_from([1, 2, 3, 8, 127, 128, 256]),
    tail=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 1000),
)
def test_products_when_any_vectors_are_multiplied_then_they_are_within_the_bound(
    items: int, width: int, tail: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # with a tail a few numbers are so large that they, not the length, set the unit
    vectors_ND = (rng.standard_normal((items, width)) * np.exp(tail * rng.standard_normal((items, width)))).astype(
        np.float32
    )
    query_D = (5 * rng.standard_normal(width)).astype(np.float32)
    expected_N = vectors_ND.astype(np.float64) @ query_D.astype(np.float64)
    error_N = np.abs(item_products(query_D, ItemMatrix.of(vectors_ND)) - expected_N)
    assert (error_N <= _bound(query_D, vectors_ND)).all()


def test_products_when_all_numbers_are_the_largest_then_no_sum_overflows() -> None:
    ones_ND = np.ones((1, 4096), np.float32)  # 4096 products of 32,767 by 32,767, each worth 1
    assert item_products(ones_ND[0], ItemMatrix.of(ones_ND))[0] == pytest.approx(4096, rel=1e-4)
    assert item_products(-ones_ND[0], ItemMatrix.of(ones_ND))[0] == pytest.approx(-4096, rel=1e-4)


def test_products_when_items_have_equal_vectors_then_they_are_equal_to_the_bit() -> None:
    vector_D = np.random.default_rng(0).standard_normal(17).astype(np.float32)
    products_N = item_products(vector_D, ItemMatrix.of(np.tile(vector_D, (150, 1))))
    assert (products_N == products_N[0]).all()


def test_products_when_a_vector_is_zero_then_its_product_is() -> None:
    vectors_ND = np.array([[0, 0, 0], [1, 2, 3]], np.float32)
    assert item_products(np.ones(3, np.float32), ItemMatrix.of(vectors_ND))[0] == 0
    assert (item_products(np.zeros(3, np.float32), ItemMatrix.of(vectors_ND)) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_products_when_the_query_is_not_a_number_then_no_product_is(value: float) -> None:
    query_D = np.array([1, value], np.float32)
    assert np.isnan(item_products(query_D, ItemMatrix.of(np.ones((70, 2), np.float32)))).all()


def test_unit_when_asked_then_the_largest_number_has_32767_of_it() -> None:
    np.testing.assert_allclose(unit_of(np.array([[3, -4], [1, 0]], np.float32)), [4 / 32767, 1 / 32767])
