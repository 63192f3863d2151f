"""Partial paths and their target distributions, against slow sums."""

import numpy as np
import torch

from recsys.codes.validity import ValidityIndex
from recsys.model.partial import draw_partial_paths, implied_targets, true_targets


def test_draw_partial_paths_when_masked_then_the_truth_is_always_allowed() -> None:
    codes_NM = np.random.default_rng(0).integers(0, 6, (50, 3))
    paths = draw_partial_paths(ValidityIndex(codes_NM, 6), codes_NM, (0.4, 0.3, 0.3), np.random.default_rng(1))
    for row in range(50):
        known = paths.partial_RM[row] >= 0
        alive = (codes_NM[:, known] == codes_NM[row, known]).all(1)
        for book in range(3):
            assert paths.allowed_RMK[row, book, codes_NM[row, book]]
            assert set(np.flatnonzero(paths.allowed_RMK[row, book])) == set(codes_NM[alive, book])


def test_implied_targets_when_summed_then_equal_the_probability_of_compatible_items_by_code() -> None:
    codes_NM = np.random.default_rng(0).integers(0, 4, (30, 3))
    paths = draw_partial_paths(ValidityIndex(codes_NM, 4), codes_NM, (0.3, 0.4, 0.3), np.random.default_rng(1))
    prob_RN = torch.softmax(torch.randn(30, 30, generator=torch.Generator().manual_seed(2)), dim=-1)
    implied = implied_targets(paths, prob_RN, torch.from_numpy(codes_NM.T.copy()))
    for row in range(30):
        known = paths.partial_RM[row] >= 0
        alive = (codes_NM[:, known] == codes_NM[row, known]).all(1)
        for book in range(3):
            slow = np.zeros(4)
            for item in np.flatnonzero(alive):
                slow[codes_NM[item, book]] += float(prob_RN[row, item])
            np.testing.assert_allclose(implied[row, book], slow / slow.sum(), atol=1e-5)
    truth = true_targets(paths)
    assert (truth.argmax(-1).numpy() == paths.codes_RM).all()
    assert (truth.sum(-1) == 1).all()
