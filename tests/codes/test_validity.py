"""Codes: the layout, the catalogue on disk, and the validity index against a brute-force scan."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.codes.validity import ValidityIndex, join_candidates
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import ArtifactError


def scan(codes_NM: IntArray, codes_M: IntArray, eligible_N: BoolArray, size: int) -> tuple[BoolArray, IntArray]:
    """Return the mask after a partial path, and the items left, by looking at every item."""
    known = codes_M >= 0
    left = np.flatnonzero(eligible_N & (codes_NM[:, known] == codes_M[known]).all(axis=1))
    mask_MK = np.zeros((codes_NM.shape[1], size), np.bool_)
    for item in left:
        mask_MK[np.arange(codes_NM.shape[1]), codes_NM[item]] = True
    return mask_MK, left


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    items=st.integers(1, 40),
    codebooks=st.integers(1, 4),
    size=st.integers(1, 4),
    share=st.sampled_from([None, 0.0, 0.3, 0.9]),
)
def test_allowed_when_choices_come_in_any_order_then_equals_a_scan_of_all_items(seed, items, codebooks, size, share):
    rng = np.random.default_rng(seed)
    codes_NM = rng.integers(0, size, (items, codebooks))
    index, rows = ValidityIndex(codes_NM, size), 3
    eligible_BN = None if share is None else rng.random((rows, items)) < share
    every_BN = np.ones((rows, items), np.bool_) if eligible_BN is None else eligible_BN
    candidates = index.start(rows, eligible_BN)
    row_P, codes_PM = np.arange(rows), np.full((rows, codebooks), -1)
    for depth in range(codebooks + 1):
        allowed_PMK = index.allowed(candidates)
        assert len(allowed_PMK) == len(row_P)
        for path, row in enumerate(row_P):
            mask_MK, left = scan(codes_NM, codes_PM[path], every_BN[row], size)
            np.testing.assert_array_equal(allowed_PMK[path], mask_MK)
            assert candidates.sizes_P[path] == len(left)
            if depth:
                part = slice(candidates.offsets_P1[path], candidates.offsets_P1[path + 1])
                np.testing.assert_array_equal(candidates.items_C[part], left)
        if depth == codebooks:
            break
        # Five children of random parents, each with a free codebook of its own; the code may be one no item has.
        parent_P = rng.integers(0, len(row_P), 5)
        book_P = np.array([rng.choice(np.flatnonzero(codes_PM[parent] < 0)) for parent in parent_P])
        code_P = rng.integers(0, size, 5)
        candidates = index.choose(candidates, parent_P, book_P, code_P)
        row_P, codes_PM = row_P[parent_P], codes_PM[parent_P]
        codes_PM[np.arange(5), book_P] = code_P


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(4)), depth=st.integers(1, 4))
def test_allowed_when_the_order_of_choices_is_permuted_then_gives_the_same_mask(seed, order, depth):
    rng = np.random.default_rng(seed)
    codes_NM = rng.integers(0, 3, (30, 4))
    index, item = ValidityIndex(codes_NM, 3), rng.integers(30)
    chosen = list(order)[:depth]
    masks = []
    for books in (chosen, sorted(chosen)):
        candidates = index.start(1)
        for book in books:
            candidates = index.choose(candidates, np.zeros(1, int), np.array([book]), codes_NM[item, [book]])
        assert item in candidates.items_C
        masks.append(index.allowed(candidates))
    np.testing.assert_array_equal(masks[0], masks[1])


def test_candidates_when_taken_and_joined_then_keep_each_path_its_items():
    index = ValidityIndex(np.array([[0, 0], [0, 1], [1, 0], [1, 0]]), 2)
    below = index.choose(index.start(1), np.zeros(3, int), np.array([0, 0, 1]), np.array([0, 1, 1]))
    joined = join_candidates([below.take(np.array([2, 0])), below.take(np.array([1]))])
    assert joined.sizes_P.tolist() == [1, 2, 2]
    assert joined.items_C.tolist() == [1, 0, 1, 2, 3]
    with pytest.raises(ValueError, match="below the root"):
        join_candidates([index.start(1)])


def test_choose_when_a_code_is_out_of_range_then_says_so():
    index = ValidityIndex(np.array([[0, 1]]), 2)
    with pytest.raises(ValueError, match="from 0 to 1, got -1"):
        index.choose(index.start(1), np.zeros(1, int), np.array([0]), np.array([-1]))


def make_catalogue(ids: list[int | str]) -> Catalogue:
    return Catalogue(
        item_ids=ids,
        codes_NM=np.array([[0, 1], [2, 3], [0, 1], [3, 3]]),
        category_N=np.array([0, 1, 1, 0]),
        num_categories=2,
        layout=CodeLayout(num_codebooks=2, codebook_size=4),
        facets={(1, 3): "red, wool", (0, 0): "lamp"},
    )


@pytest.mark.parametrize("ids", [[7, 3, 9, 1], ["a", "3", "ü", ""]])
def test_catalogue_when_saved_then_loads_the_same(tmp_path: Path, ids: list[int | str]) -> None:
    made = make_catalogue(ids)
    made.save(tmp_path / "catalog")
    loaded = Catalogue.load(tmp_path / "catalog")
    assert loaded.item_ids == ids
    np.testing.assert_array_equal(loaded.codes_NM, made.codes_NM)
    np.testing.assert_array_equal(loaded.category_N, made.category_N)
    assert loaded.codes_NM.dtype == loaded.category_N.dtype == np.int64
    assert (loaded.num_categories, loaded.layout, loaded.facets) == (2, made.layout, made.facets)


def test_catalogue_when_a_file_is_missing_then_names_the_remedy(tmp_path: Path) -> None:
    make_catalogue([7, 3, 9, 1]).save(tmp_path)
    (tmp_path / "codes.parquet").unlink()
    with pytest.raises(ArtifactError, match="run the catalog stage again"):
        Catalogue.load(tmp_path)


def test_layout_when_tokens_are_numbered_then_codebook_by_codebook() -> None:
    layout = CodeLayout(num_codebooks=3, codebook_size=5)
    pairs_NM = np.stack([np.arange(5)] * 3, axis=1)
    assert (layout.first_token_M + pairs_NM).T.ravel().tolist() == list(range(layout.num_tokens))
