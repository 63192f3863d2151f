"""Bench cold: whose events are left out, and its figures on a small run."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.benches.cold import AS_NEW, BONUSES, asked_users, bench_cold, drawn_items, ways, without_items
from recsys.contracts import History
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
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


def test_asked_users_when_divided_then_next_items_are_cold_or_not_and_histories_never(run: Path) -> None:
    log = load_prepared(run / "data").log
    cold_N = drawn_items(log.num_items, 0.25, 7)
    asked = asked_users(log, cold_N)
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
    tried = ways(sources, {"other": 0.75, AS_NEW: 0.25}, np.array([False, False, True]))
    # items 0 and 1: .75 * -2 + .25 * -4 = -2.5; item 2: -4 and the bonus
    np.testing.assert_allclose(tried["both mixed"]([history]), [[-2.5, -2.5, -2.5]])
    for bonus in BONUSES:
        found = tried[f"both mixed, cold items by codes as new, bonus {bonus:g}"]([history])
        np.testing.assert_allclose(found, [[-2.5, -2.5, -4 + bonus]])


@pytest.mark.usefixtures("one_thread")
def test_bench_when_a_run_is_small_then_every_way_has_all_figures_and_a_bonus_only_helps_cold_items(run: Path) -> None:
    shape = TokenizerConfig(num_codebooks=2, codebook_size=8, width=4, epochs=2)
    lines = bench_cold(
        run, tokenizer=shape, model=TokenModelConfig(width=16, layers=1, heads=2), share=0.25, seeds=(1, 2)
    )
    found = {(line.what, line.figure): line.ours for line in lines}
    assert len(found) == (4 + len(BONUSES)) * 4
    by_bonus = [f"both mixed, cold items by codes as new, bonus {bonus:g}" for bonus in BONUSES]
    cold, others = ([found[name, figure] for name in by_bonus] for figure in ("cold items, R@10", "others, R@10"))
    assert cold == sorted(cold)
    assert others == sorted(others, reverse=True)
    assert all(found[name, "others, R@10"] >= found[name, "others, N@10"] for name in by_bonus)
