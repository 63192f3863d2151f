"""The gate's rule on made-up replays, and A/B results with known answers."""

import numpy as np
import pytest

from recsys.evaluation.ab import ABResult, arms_of, compare_arms
from recsys.evaluation.gate import GateConfig, apply_gate
from recsys.evaluation.replay_results import Replay, ReplayRow
from recsys.evaluation.results import Estimate, PairedRow


def replay_of(differences: dict[str, tuple[float, float, float]], events: int = 500) -> Replay:
    """Return a replay in which the current release has .10 everywhere and the candidate differs as said."""
    rows, paired = [], []
    for name, (low, value, high) in differences.items():
        for who, figure in (("current", 0.10), ("candidate", 0.10 + value)):
            figures = {"ndcg@10": Estimate(value=figure, low=figure, high=figure)}
            rows.append(ReplayRow(recommender=who, slice=name, figures=figures))
        difference = {"ndcg@10": Estimate(value=value, low=low, high=high)}
        paired.append(PairedRow(recommender="candidate", compared_with="current", group=name, difference=difference))
    return Replay(rows=tuple(rows), paired=tuple(paired), events=dict.fromkeys(differences, events))


@pytest.mark.parametrize(
    ("differences", "failed"),
    [
        ({"all": (-0.02, -0.001, 0.02)}, []),  # the margin is 2 % of .10: at least -.002
        ({"all": (-0.02, -0.003, 0.02)}, ["all"]),
        ({"all": (-0.0015, -0.001, -0.0005)}, ["all"]),  # little, but surely worse
        ({"all": (0.001, 0.002, 0.003), "new users": (-0.03, -0.02, -0.01)}, ["new users"]),
        ({"all": (0.001, 0.002, 0.003), "new users": (-0.03, -0.01, 0.01)}, []),  # not surely worse
        ({"all": (0.001, 0.002, 0.003), "category: shoes": (-0.03, -0.02, -0.01)}, []),  # not among the slices
    ],
)
def test_gate_when_a_slice_falls_then_it_is_named(
    differences: dict[str, tuple[float, float, float]], failed: list[str]
) -> None:
    verdict = apply_gate(replay_of(differences), GateConfig())
    assert [check.slice for check in verdict.checks if not check.passed] == failed
    assert verdict.passed is not bool(failed)


def test_gate_when_it_refuses_then_the_words_hold_slice_and_numbers() -> None:
    verdict = apply_gate(replay_of({"all": (0.0, 0.0, 0.0), "new items": (-0.03, -0.02, -0.01)}), GateConfig())
    assert verdict.failures == (
        "'new items' (500 events) went from 0.1000 to 0.0800, a difference of -0.0200 (-0.0300 to -0.0100); "
        "its interval must not lie wholly below zero"
    )


def test_gate_when_it_must_be_sure_then_the_whole_interval_counts() -> None:
    differences = {"all": (-0.004, 0.001, 0.006)}
    assert apply_gate(replay_of(differences), GateConfig()).passed
    assert not apply_gate(replay_of(differences), GateConfig(sure=True)).passed
    assert apply_gate(replay_of(differences), GateConfig(sure=True, margin=0.05)).passed


def test_gate_when_a_slice_has_few_events_then_is_not_decided_on() -> None:
    few = replay_of({"all": (0.0, 0.0, 0.0), "new users": (-0.03, -0.02, -0.01)}, events=29)
    assert [check.slice for check in apply_gate(few, GateConfig()).checks] == ["all"]


def test_ab_when_arms_are_worked_by_hand_then_difference_and_days_agree() -> None:
    # control 0, 0, 1, 1 and treatment 1, 1, 1, 1 (x 100): means .5 and 1, variance of control .2506 with 400 users
    control, treatment = np.array([0.0, 0, 1, 1] * 100), np.ones(400)
    result = compare_arms(control, treatment, names=("old", "new"), days=4.0)
    assert result.difference.value == pytest.approx(0.5)
    half = 1.96596 * (control.var(ddof=1) / 400) ** 0.5  # t(399) at .975
    assert result.difference.high - 0.5 == pytest.approx(half, rel=1e-4)
    assert result.verdict == "new is better than old"
    assert ABResult.from_json(result.to_json()) == result
    assert result.sample_ratio_p == pytest.approx(1.0)
    # (1.95996 + .84162)^2 = 7.8489; times variance / difference^2 in days
    assert result.days_to_significance == pytest.approx(4 * 7.8489 * (control.var(ddof=1) / 400) / 0.25, rel=1e-4)


def test_ab_when_the_split_is_broken_then_the_difference_is_not_read() -> None:
    rng = np.random.default_rng(0)
    result = compare_arms(rng.random(1000), rng.random(1300), names=("a", "b"), days=1.0)
    assert result.verdict.startswith("the split 1,000 to 1,300 is not the one that was asked for (p = ")
    fine = compare_arms(rng.random(1000), rng.random(1300), names=("a", "b"), days=1.0, treatment_share=1300 / 2300)
    assert fine.sample_ratio_p == pytest.approx(1.0)


def test_ab_when_there_is_no_effect_then_intervals_cover_zero_in_95_of_100_runs() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        result = compare_arms(rng.random(80), rng.random(80), names=("a", "b"), days=1.0)
        covered += result.difference.low <= 0 <= result.difference.high
    assert 0.935 <= covered / 1000 <= 0.965  # two standard errors of 1,000 draws


def test_arms_when_a_user_saw_both_then_is_counted_and_left_out() -> None:
    arms, crossed = arms_of(["u", "u", "v", "w", "w"], ["a", "a", "b", "a", "b"], [1.0, 2.0, 5.0, 1.0, 1.0])
    assert {name: values.tolist() for name, values in arms.items()} == {"a": [3.0], "b": [5.0]}
    assert crossed == 1
    with pytest.raises(ValueError, match="each arm must hold two users or more, got 1 and 1"):
        compare_arms(arms["a"], arms["b"], names=("a", "b"), days=1.0)
