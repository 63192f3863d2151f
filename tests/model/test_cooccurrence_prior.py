"""The co-occurrence prior: votes by hand, content similarity, cross-fitting."""

import numpy as np
import pytest

from recsys.data.events import build_log
from recsys.model.cooccurrence_prior import WINDOWS, CooccurrencePrior, cross_fit, likeness_table
from tests.support.cycle_world import cycle_log


def test_scores_when_looked_up_then_equals_votes_counted_by_hand() -> None:
    # One user walks 0, 1, 2; another 0, 1. Counts: item 0 twice, 1 twice, 2 once. Pairs one apart: 0-1 twice, 1-2 once.
    log = build_log(
        np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1]), np.arange(5), np.arange(5), num_users=2, num_items=3
    )
    prior = CooccurrencePrior.of(log)
    # Next to 1: item 0 with 2 / sqrt(2 * 2) = 1, item 2 with 1 / sqrt(2 * 1) = .7071; votes v tell log(1 + v / .02).
    immediate = WINDOWS.index(next(window for window in WINDOWS if window.distance == 1))
    told = prior.scores([np.array([2, 1]), np.array([], np.int64)])[immediate].toarray()
    np.testing.assert_allclose(told[0], [np.log(1 + 1 / 0.02), 0, np.log(1 + 0.70711 / 0.02)], rtol=1e-4)
    assert not told[1].any()
    # Five apart: 0-2 is a pair too, 1 / sqrt(2 * 1). Of the history 2, 1 the newest votes whole, the other times .7:
    # item 0 gets 1 + .7 * .7071 = 1.495.
    near = prior.scores([np.array([2, 1])])[0].toarray()
    assert near[0, 0] == pytest.approx(np.log(1 + 1.49497 / 0.02), rel=1e-4)


def test_likeness_table_when_items_are_alike_then_holds_powers_of_their_cosines() -> None:
    # (1, 0) and (.6, .8) have cosine .6: .6 ** 4 = .1296; the zero row has nobody, and (0, 1) is .8 from the second.
    table = likeness_table(np.array([[2.0, 0.0], [0.6, 0.8], [0.0, 0.0], [0.0, 1.0]], np.float32)).toarray()
    wanted = np.zeros((4, 4))
    wanted[0, 1] = wanted[1, 0] = 0.1296
    wanted[1, 3] = wanted[3, 1] = 0.4096
    np.testing.assert_allclose(table, wanted, atol=1e-6)


def test_cross_fit_when_users_are_dealt_out_then_no_fold_counts_its_own_pairs() -> None:
    log = cycle_log()
    folds = cross_fit(log, 4, np.random.default_rng(0))
    assert sum(len(fold.log.items_E) for fold in folds) == len(log.items_E)
    for fold in folds:
        own_U = fold.log.lengths_U > 0
        others = CooccurrencePrior.of(log.first(np.where(own_U, 0, log.lengths_U)))
        for ours, theirs in zip(fold.prior.tables, others.tables, strict=True):
            np.testing.assert_array_equal(ours.toarray(), theirs.toarray())
        whole = CooccurrencePrior.of(log)
        assert fold.prior.tables[0].sum() != whole.tables[0].sum()
