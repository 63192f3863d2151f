"""Bench cold: whose events are left out, and its figures on a small run."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.benches.cold import (
    AS_NEW,
    BONUSES,
    LIKENESS,
    MIXED,
    PLACES,
    bench_cold,
    drawn_items,
    kept_ranks,
    queries_of,
    ways,
    without_items,
)
from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.decoding.evidence import RankedItems
from recsys.decoding.kept_places import fill_places, kept_places
from recsys.model.tokens.config import TokenModelConfig
from recsys.tokenizer.kinds import TokenizerConfig


def test_log_when_items_are_left_out_then_all_other_events_stay_in_order(run: Path) -> None:
    log = training_log(load_prepared(run / "data").log)
    cold_N = drawn_items(log.num_items, 0.25, 7)
    assert cold_N.sum() == round(0.25 * log.num_items)
    left = without_items(log, cold_N)
    assert left.num_users == log.num_users
    assert left.num_items == log.num_items
    assert not left.counts_N[cold_N].any()
    np.testing.assert_array_equal(left.counts_N[~cold_N], log.counts_N[~cold_N])
    for user in range(log.num_users):
        before = log.history(user).items
        np.testing.assert_array_equal(left.history(user).items, before[~cold_N[before]])


def test_queries_of_when_divided_then_next_items_are_cold_or_not_and_histories_never(run: Path) -> None:
    log = load_prepared(run / "data").log
    cold_N = drawn_items(log.num_items, 0.25, 7)
    asked = queries_of(log, cold_N)
    assert cold_N[asked.cold.targets_U].all()
    assert not cold_N[asked.others.targets_U].any()
    assert len(asked.cold.targets_U)
    assert len(asked.others.targets_U)
    assert not any(cold_N[history.items].any() for one in (asked.cold, asked.others) for history in one.histories)


def test_ways_when_cold_items_have_a_score_of_their_own_then_it_is_that_of_codes_as_new_and_the_bonus() -> None:
    history = History(items=np.array([0]), timestamps=np.array([0]))
    sources = {
        "other": lambda asked: np.full((len(asked), 3), -2.0),
        AS_NEW: lambda asked: np.full((len(asked), 3), -4.0),
    }
    codes_NM = np.array([[0, 1], [2, 3], [0, 4]])
    tried = ways(sources, {"other": 0.75, AS_NEW: 0.25}, np.array([False, False, True]), codes_NM)
    # items 0 and 1: .75 * -2 + .25 * -4 = -2.5; item 2: -4 and the bonus
    np.testing.assert_allclose(tried["both mixed"].score([history]), [[-2.5, -2.5, -2.5]])
    for bonus in BONUSES:
        found = tried[f"{MIXED}, bonus {bonus:g}"].score([history])
        np.testing.assert_allclose(found, [[-2.5, -2.5, -4 + bonus]])
    # item 2 has one of the two codes of item 0, which is all that the user chose: half of the weight
    found = tried[f"{MIXED}, 2 of ten places by shared codes too"].score([history])
    np.testing.assert_allclose(found, [[-2.5, -2.5, -4 + LIKENESS / 2]])


@given(seed=st.integers(0, 10_000), number=st.integers(0, 5))
def test_kept_ranks_when_places_are_kept_then_they_are_those_in_the_slate_that_is_filled(
    seed: int, number: int
) -> None:
    rng = np.random.default_rng(seed)
    scores_BN = rng.permutation(60)[None].astype(np.float32)
    cold_N, seen = rng.permutation(60) < 20, rng.choice(60, 5, replace=False)
    order_N = np.argsort(-scores_BN[0])
    others, cold = (order_N[(cold_N[order_N] == kind) & ~np.isin(order_N, seen)] for kind in (False, True))
    slate = fill_places(_ranked(others), _ranked(cold), share=number / 10, n=10).item_S.tolist()
    for target in range(60):
        (rank,) = kept_ranks(
            scores_BN.copy(),
            np.array([target]),
            (np.zeros(5, np.int64), seen),
            cold_N=cold_N,
            kept_S=kept_places(number / 10, 10),
        )
        assert rank == (slate.index(target) + 1 if target in slate else 0)


def test_kept_ranks_when_scores_tie_then_the_target_is_behind_those_of_its_kind() -> None:
    # places 1 and 2 are the others', 3 is kept: item 0 ties with item 1, so is second; item 3 ties with 4, so behind 3
    scores_BN, cold_N = np.array([[5, 5, 1, 7, 7]], np.float32), np.array([False, False, False, True, True])
    kept_S = np.array([False, False, True])
    seen = (np.empty(0, np.int64), np.empty(0, np.int64))
    ranks = [kept_ranks(scores_BN.copy(), np.array([item]), seen, cold_N=cold_N, kept_S=kept_S)[0] for item in range(5)]
    assert ranks == [2, 2, 0, 0, 0]


def _ranked(items: IntArray) -> RankedItems:
    return RankedItems(item_S=items, score_S=-np.arange(len(items), dtype=np.float32), reached_S=items)


@pytest.mark.usefixtures("one_thread")
def test_bench_when_a_run_is_small_then_every_way_has_all_figures_and_a_bonus_only_helps_cold_items(run: Path) -> None:
    shape = TokenizerConfig(num_codebooks=2, codebook_size=8, width=4, epochs=2)
    lines = bench_cold(
        run, tokenizer=shape, model=TokenModelConfig(width=16, layers=1, heads=2), share=0.25, seeds=(1, 2)
    )
    found = {(line.what, line.figure): line.ours for line in lines}
    assert len(found) == (4 + len(BONUSES) + 2 * len(PLACES)) * 4
    by_bonus = [f"{MIXED}, bonus {bonus:g}" for bonus in BONUSES]
    by_places = [f"{MIXED}, {number} of ten places" for number in PLACES]
    for names in (by_bonus, by_places):
        cold, others = ([found[name, figure] for name in names] for figure in ("cold items, R@10", "others, R@10"))
        assert cold == sorted(cold)
        assert others == sorted(others, reverse=True)
    for name in by_places:  # the order of cold items is nothing to the others
        for figure in ("others, R@10", "others, N@10"):
            assert found[name, figure] == found[f"{name} by shared codes too", figure]
    assert all(found[name, "others, R@10"] >= found[name, "others, N@10"] for name in by_bonus)
