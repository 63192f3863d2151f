"""A replay as Markdown: figures with intervals, ours apart, slices, refusals in words."""

from pipelines.replay_tables import replay_markdown
from recsys.evaluation.replay_results import (
    OffPolicyRow,
    PeriodRow,
    Replay,
    ReplayCost,
    ReplayRow,
    ShownRanking,
)
from recsys.evaluation.results import Estimate, PairedRow

DAY = 86_400
REFUSAL = "this log cannot decide this: 3 effective requests"


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.01, high=value + 0.01)


def figures(value: float) -> dict[str, Estimate]:
    return {"recall@10": estimate(2 * value), "ndcg@10": estimate(value)}


def made_up() -> Replay:
    worth = {"popularity": 0.05, "sasrec": 0.06, "recsys": 0.08}
    slices = {"all": 900, "new users": 40}
    one = {"target": "recsys", "logging": "random", "effective_sample_size": 300.0, "estimate": estimate(0.2)}
    return Replay(
        log="a day",
        split="global time cut at 2026-01-01 00:00 UTC",
        rows=tuple(
            ReplayRow(recommender=name, slice=part, figures=figures(value))
            for name, value in worth.items()
            for part in slices
        ),
        events=slices,
        over_time=(PeriodRow(recommender="recsys", start=0, end=3 * DAY, events=900, figures=figures(0.08)),),
        paired=tuple(
            PairedRow(recommender="recsys", compared_with=name, group=part, difference=figures(0.08 - worth[name]))
            for name in ("popularity", "sasrec")
            for part in slices
        ),
        costs=(
            ReplayCost(
                recommender="recsys", requests=900, milliseconds=1.54, milliseconds_p50=1.25, milliseconds_p99=9.75
            ),
        ),
        off_policy=(
            OffPolicyRow(estimator="ips", **one),  # type: ignore[arg-type]
            OffPolicyRow(estimator="direct method", biased=True, **one),  # type: ignore[arg-type]
            OffPolicyRow(estimator="standard ips", refusal=REFUSAL, **one),  # type: ignore[arg-type]
        ),
        counts={"asked": 900},
        shown=ShownRanking(
            groups={"all": 12},
            items=345,
            rows=tuple(ReplayRow(recommender=name, slice="all", figures={"auc": estimate(0.6)}) for name in worth),
            paired=(
                PairedRow(
                    recommender="recsys", compared_with="sasrec", group="all", difference={"auc": estimate(0.05)}
                ),
            ),
        ),
    )


def test_markdown_when_a_replay_has_every_part_then_each_is_a_table_with_its_intervals() -> None:
    lines = replay_markdown(made_up()).splitlines()
    assert lines[0] == (
        "a day: replay in time order, global time cut at 2026-01-01 00:00 UTC; "
        "900 events asked from 1970-01-01 to 1970-01-04."
    )
    # ours - theirs: .08 - .05
    assert "| popularity | .1000 (.0900 to .1100) | .0500 (.0400 to .0600) | .0300 (.0200 to .0400) |  |" in lines
    assert "| **recsys** | .1600 (.1500 to .1700) | .0800 (.0700 to .0900) |  | 1.5 |" in lines
    # the best rival on all events is sasrec: .08 - .06
    assert "| slice | events | popularity | sasrec | **recsys**, 95 % | ours - sasrec |" in lines
    assert "| new users | 40 | .0500 | .0600 | .0800 (.0700 to .0900) | .0200 (.0100 to .0300) |" in lines
    assert "Ranking what was shown, 345 items, those taken against those passed over:" in lines
    assert "| all | 12 | sasrec | .6000 (.5900 to .6100) | .0500 (.0400 to .0600) |" in lines
    assert "| random | recsys | ips | .2000 (.1900 to .2100) | 300 |" in lines
    assert "| random | recsys | direct method | .2000 (.1900 to .2100) (biased) | 300 |" in lines
    assert "| random | recsys | standard ips | not decided (1) | 300 |" in lines
    assert lines[-1] == f"(1) {REFUSAL}"


def test_markdown_when_only_estimates_are_there_then_nothing_else_is_said() -> None:
    whole = made_up()
    text = replay_markdown(Replay(rows=(), log="coat", off_policy=whole.off_policy[:1]))
    assert text.splitlines()[0] == "coat: replay in time order, leave-one-out."
    assert text.count("\n| ") == 2  # the headings and one estimate
