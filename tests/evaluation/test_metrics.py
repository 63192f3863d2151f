"""Metrics, intervals and leave-one-out against hand-worked values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import History, Slate, empty_history
from recsys.core.ranking import ndcg_at
from recsys.data.splits import Questions
from recsys.evaluation.intervals import bootstrap_interval, bootstrap_intervals, paired_difference
from recsys.evaluation.leave_one_out import evaluate_recommender, evaluate_rows
from recsys.evaluation.metrics import coverage, rank_of_target, ranks_of_targets, recall_at


def slate(items, scores):
    return Slate(items=np.array(items, np.int64), scores=np.array(scores, np.float32))


class Fixed:
    """Answers every question with the same slate, and keeps what it was asked."""

    name = "fixed"

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def recommend(self, requests):
        one = requests[0]
        self.asked.append((len(requests), one.n, one.keep_seen, one.eligible_N))
        return [slate(self.answer.items[: each.n], self.answer.scores[: each.n]) for each in requests]


def test_rank_when_scores_tie_then_counts_all_equals():
    ranked = slate([7, 3, 9, 1], [5.0, 2.0, 2.0, 1.0])
    assert rank_of_target(ranked, 7) == 1
    assert rank_of_target(ranked, 3) == 3  # 7 is above, 3 and 9 tie: 1 + 2
    assert rank_of_target(ranked, 9) == 3
    assert rank_of_target(ranked, 1) == 4
    assert rank_of_target(ranked, 2) is None


def test_rank_when_tie_group_runs_past_the_cutoff_then_is_a_miss():
    eleven = slate(range(11), [3.0] * 2 + [1.0] * 9)  # nine ties on places 3..11: each has rank 11
    ranks = ranks_of_targets([eleven, eleven, eleven], np.array([1, 2, 10]))
    assert ranks.tolist() == [2, 11, 11]
    assert recall_at(ranks, 10).tolist() == [1, 0, 0]


def test_metrics_when_ranks_are_known_then_match_hand_values():
    ranks = np.array([1, 3, 6, 0])  # 0 is a miss
    assert recall_at(ranks, 5).tolist() == [1, 1, 0, 0]
    # 1/log2(2) = 1, 1/log2(4) = 0.5, 1/log2(7) = 0.35621
    assert ndcg_at(ranks, 5) == pytest.approx([1, 0.5, 0, 0])
    assert ndcg_at(ranks, 10) == pytest.approx([1, 0.5, 0.35621, 0], abs=1e-5)


def test_coverage_when_slates_overlap_then_counts_items_once():
    # {0, 1} and {1, 2} are 3 items of 6
    assert coverage([np.array([0, 1]), np.array([1, 2])], num_items=6) == 0.5
    assert coverage([], num_items=6) == 0.0


def test_bootstrap_interval_when_values_are_coin_flips_then_is_near_the_normal_one():
    values = np.tile([0.0, 1.0], 200)  # sd of the mean = 0.5 / sqrt(400) = 0.025, so 0.5 -+ 1.96 * 0.025
    low, high = bootstrap_interval(values, np.random.default_rng(1))
    assert low == pytest.approx(0.451, abs=0.006)
    assert high == pytest.approx(0.549, abs=0.006)


def test_bootstrap_intervals_when_a_user_has_many_events_then_draws_the_user_whole():
    # two users with constant values 0 and 1: a resample of users gives exactly 0, 0.5 or 1, so the interval is [0, 1];
    # resampling the 200 events apart would give about 0.43..0.57
    values = np.repeat([0.0, 1.0], 100)[:, None]
    low, high = bootstrap_intervals(values, np.repeat([4, 9], 100), np.random.default_rng(0))
    assert (low[0], high[0]) == (0.0, 1.0)


def test_paired_difference_when_a_beats_b_everywhere_then_interval_is_tighter_than_either():
    b = np.random.default_rng(0).random(100)
    mean, low, high = paired_difference(b + 0.1, b, np.random.default_rng(0))
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))


def test_paired_difference_when_only_noise_differs_then_interval_holds_zero():
    a, b = np.random.default_rng(0).random((2, 500))
    _, low, high = paired_difference(a, b, np.random.default_rng(0))
    assert low < 0 < high


def test_intervals_when_input_is_unusable_then_refuse():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="equal shapes"):
        paired_difference(np.zeros(2), np.zeros(3), rng)
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap_interval(np.zeros(0), rng)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 11))
def test_rank_when_any_scores_then_never_better_than_the_place(scores, place):
    place %= len(scores)
    ranked = slate(range(len(scores)), sorted(scores, reverse=True))
    rank = rank_of_target(ranked, place)
    assert rank is not None
    assert place + 1 <= rank <= len(scores)


def test_evaluate_when_targets_are_known_then_row_has_the_frozen_keys_and_values():
    fixed = Fixed(slate(range(12), np.arange(12, 0, -1)))
    asked = Questions(users_U=np.arange(4), histories=[empty_history()] * 4, targets_U=np.array([0, 2, 6, 11]))
    evaluated = evaluate_recommender(fixed, asked, num_items=20, keep_seen=False, batch_size=3, seed=1)
    values = evaluated.row.to_json()
    assert list(values) == [
        "recommender", "seen", "recall@5", "ndcg@5", "recall@10", "ndcg@10", "coverage",
        "std", "interval", "runs",
    ]  # fmt: skip
    # ranks 1, 3, 7 and a miss (item 11 is the twelfth of eleven asked)
    assert evaluated.ranks_U.tolist() == [1, 3, 7, 0]
    assert (values["recall@5"], values["recall@10"]) == (0.5, 0.75)
    assert values["ndcg@10"] == pytest.approx((1 + 0.5 + 1 / 3) / 4)  # 1/log2(8) = 1/3
    assert values["coverage"] == 0.5  # ten of twenty
    assert values["seen"] == "removed"
    low, high = values["interval"]["recall@10"]
    assert low < 0.75 < high
    assert values["std"] == {}  # one run has no deviation
    assert fixed.asked == [(3, 11, False, None), (1, 11, False, None)]


def test_evaluate_rows_when_several_are_asked_then_each_batch_is_asked_of_all_and_each_row_is_its_own():
    full = History(items=np.arange(12), timestamps=np.arange(12))
    asked = Questions(
        users_U=np.arange(3), histories=[empty_history(), full, empty_history()], targets_U=np.zeros(3, int)
    )
    first, second = Fixed(slate(range(5), [5, 4, 3, 2, 1])), Fixed(slate([7], [1]))
    turns: list[tuple[str, int]] = []
    for name, one in (("first", first), ("second", second)):
        answer = one.recommend
        one.recommend = lambda requests, name=name, answer=answer: (
            turns.append((name, len(requests))),
            answer(requests),
        )[1]
    ticks = iter(range(100))
    rows = [(first, True), (second, True), (first, False)]
    found = evaluate_rows(rows, asked, num_items=12, batch_size=2, seed=0, clock=lambda: float(next(ticks)))
    # two batches by length: both empty histories, then the full one, which lacks no item that could be ranked
    assert turns == [("first", 2), ("second", 2), ("first", 2), ("first", 1), ("second", 1)]
    assert [(one.row.seen, one.ranks_U.tolist()) for one in found] == [
        ("kept", [1, 1, 1]), ("kept", [0, 0, 0]), ("removed", [1, 1]),
    ]  # fmt: skip
    assert [one.row.coverage for one in found] == [5 / 12, 1 / 12, 5 / 12]
    assert [one.seconds for one in found] == [2.0, 2.0, 1.0]  # a tick a call
    with pytest.raises(ValueError, match="who lacks an item"):
        evaluate_rows([(first, False)], asked.take(np.array([1])), num_items=12, seed=0)


def test_evaluate_when_asked_twice_then_intervals_are_equal():
    fixed = Fixed(slate(range(3), [3, 2, 1]))
    histories = [History(items=np.array([4]), timestamps=np.array([1]))] * 3
    asked = Questions(users_U=np.arange(3), histories=histories, targets_U=np.array([0, 1, 5]))
    rows = [evaluate_recommender(fixed, asked, num_items=6, keep_seen=True, seed=3).row for _ in range(2)]
    assert rows[0] == rows[1]
    assert rows[0].seen == "kept"


def test_evaluate_when_nobody_can_be_judged_then_refuses():
    nobody = Questions(users_U=np.zeros(0, int), histories=[], targets_U=np.zeros(0, int))
    with pytest.raises(ValueError, match="at least one user"):
        evaluate_recommender(Fixed(slate([0], [1])), nobody, num_items=1, keep_seen=True, seed=0)
