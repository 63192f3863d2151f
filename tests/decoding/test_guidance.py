"""Conditionals of codes, against slow sums."""

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.decoding.guidance import implied
from recsys.decoding.paths import Expansions, root_beam


def test_implied_when_some_codes_are_chosen_then_shares_are_sums_over_the_items_left():
    codes_NM = np.random.default_rng(6).integers(0, 3, (20, 2))
    index = ValidityIndex(codes_NM, 3)
    head_BN = np.log(np.random.default_rng(7).dirichlet(np.ones(20), 2)).astype(np.float32)
    eligible_PN = np.random.default_rng(8).random((2, 20)) < 0.7
    root = root_beam(np.array([0, 1]), index.start(2, eligible_PN), num_codebooks=2)
    code = codes_NM[np.flatnonzero(eligible_PN[0])[0], 0]
    step = Expansions(
        parent_X=np.array([0]),
        codebook_X=np.array([0]),
        code_X=np.array([code]),
        step_log_prob_X=np.zeros(1),
        log_prob_X=np.zeros(1),
    )
    for beam, left_PN in (
        (root, eligible_PN),
        (root.grow(step, index, step=0), (eligible_PN[0] & (codes_NM[:, 0] == code))[None]),
    ):
        got_PMK = implied(beam, index, head_BN)
        for path, row in enumerate(beam.row_P):
            for book in range(2):
                slow_K = np.zeros(3)
                for item in np.flatnonzero(left_PN[path]):
                    slow_K[codes_NM[item, book]] += np.exp(head_BN[row, item])
                np.testing.assert_allclose(got_PMK[path, book], slow_K / slow_K.sum(), atol=1e-5)
