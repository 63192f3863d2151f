"""The figures' JSON: frozen keys, nothing lost on the way there and back, means and deviations over runs."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.errors import ArtifactError
from recsys.evaluation.replay_results import OffPolicyRow, Replay, ReplayRow
from recsys.evaluation.results import (
    METRICS,
    Beyond,
    Cost,
    Estimate,
    Evaluation,
    EvaluationRow,
    PairedRow,
    mean_row,
)

figures = st.floats(0, 1)
estimates = st.builds(Estimate, value=figures, low=figures, high=figures)
accuracies = st.fixed_dictionaries(dict.fromkeys(METRICS, estimates))
rows = st.builds(
    EvaluationRow,
    recommender=st.sampled_from(["recsys", "popularity"]),
    seen=st.sampled_from(["kept", "removed"]),
    accuracy=accuracies,
    coverage=figures,
    beyond=st.none()
    | st.builds(
        Beyond,
        popularity=figures,
        diversity=figures,
        cold_users=figures,
        cold_recall=figures,
        rare_users=st.none() | figures,
        rare_recall=st.none() | figures,
    ),
    cost=st.none()
    | st.builds(
        Cost,
        train_seconds=figures,
        milliseconds_a_user=figures,
        peak_memory_mb=st.none() | figures,
        peak_cpu_threads=st.none() | figures,
    ),
    deviation=st.just({}) | st.fixed_dictionaries({"recall@10": figures}),
    runs=st.integers(1, 5),
)
comparisons = st.builds(
    PairedRow,
    recommender=st.just("recsys"),
    compared_with=st.just("popularity"),
    group=st.sampled_from(["kept", "removed"]),
    difference=accuracies,
)


@given(st.lists(rows, max_size=3), st.lists(comparisons, max_size=2))
def test_evaluation_when_written_and_read_then_is_equal(some: list[EvaluationRow], paired: list[PairedRow]) -> None:
    result = Evaluation(
        dataset="d", split="test", users=3, items=4, seeds=(1, 2), rows=tuple(some), paired=tuple(paired)
    )
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))) == result


@given(estimates, st.floats(0, 100))
def test_replay_when_written_and_read_then_is_equal(estimate: Estimate, size: float) -> None:
    off_policy = OffPolicyRow(
        target="recsys", logging="random", estimator="ips", estimate=estimate, effective_sample_size=size
    )
    row = ReplayRow(recommender="recsys", slice="all", figures={"recall@10": estimate})
    result = Replay(log="d", rows=(row,), off_policy=(off_policy,), note="n", events={"all": 3})
    values = json.loads(json.dumps(result.to_json()))
    assert Replay.from_json(values) == result
    promised = {"target", "logging", "estimator", "value", "low", "high", "effective_sample_size"}
    assert set(values["off_policy"][0]) == promised | {"clipped_share", "biased", "refusal"}


def row_of(value: float, *, cost: Cost | None = None) -> EvaluationRow:
    accuracy = {metric: Estimate(value=value, low=value, high=value) for metric in METRICS}
    return EvaluationRow(recommender="recsys", seen="removed", accuracy=accuracy, coverage=value, cost=cost)


def test_row_when_written_then_has_the_promised_keys() -> None:
    cost = Cost(train_seconds=2.0, milliseconds_a_user=0.5)
    values = row_of(0.25, cost=cost).to_json()
    assert set(values) == {
        "recommender", "seen", *METRICS, "coverage", "train_seconds", "milliseconds_a_user", "std", "interval", "runs",
    }  # fmt: skip
    assert values["std"] == {}
    assert values["interval"] == {metric: [0.25, 0.25] for metric in METRICS}


def test_mean_row_when_of_two_runs_then_means_and_deviations_are_the_hand_values() -> None:
    first = row_of(0.1, cost=Cost(train_seconds=1.0, milliseconds_a_user=2.0, peak_memory_mb=100.0))
    second = row_of(0.3, cost=Cost(train_seconds=3.0, milliseconds_a_user=4.0))
    mean = mean_row([first, second], name="variant", accuracy=first.accuracy)
    assert (mean.recommender, mean.runs) == ("variant", 2)
    assert mean.coverage == pytest.approx(0.2)
    # memory was measured in one run only, so that its mean would not be that of both
    assert mean.cost == Cost(train_seconds=2.0, milliseconds_a_user=3.0)
    assert mean.deviation["coverage"] == pytest.approx(0.2 / 2**0.5)  # |a - b| / sqrt(2)
    assert "peak_memory_mb" not in mean.deviation
    assert mean_row([first], name="recsys", accuracy=first.accuracy) == first


def test_mean_row_when_one_run_has_no_cost_then_the_mean_has_none() -> None:
    with_cost = replace(row_of(0.1), cost=Cost(train_seconds=1.0, milliseconds_a_user=1.0))
    assert mean_row([with_cost, row_of(0.1)], name="x", accuracy=with_cost.accuracy).cost is None


def test_evaluation_when_a_key_is_missing_then_the_error_names_it() -> None:
    values = Evaluation(dataset="d", split="test", users=1, items=1, seeds=(1,), rows=(row_of(0.5),)).to_json()
    del values["rows"][0]["coverage"]
    with pytest.raises(ArtifactError, match=r"coverage.*recsys evaluate"):
        Evaluation.from_json(values)


def test_row_when_asked_for_one_that_is_not_there_then_names_what_is() -> None:
    result = Evaluation(dataset="d", split="test", users=1, items=1, seeds=(1,), rows=(row_of(0.5),))
    assert result.row("recsys").coverage == 0.5
    with pytest.raises(KeyError, match="recsys"):
        result.row("popularity")


@given(comparisons)
def test_evaluation_when_saved_before_names_were_turned_then_is_read_alike(row: PairedRow) -> None:
    result = Evaluation(dataset="d", split="test", users=3, items=4, seeds=(1,), rows=(), paired=(row,))
    values = result.to_json()
    (now,) = values.pop("paired")
    values["against"] = [{**now, "recommender": row.compared_with, "compared_with": row.recommender}]
    assert Evaluation.from_json(values) == result
