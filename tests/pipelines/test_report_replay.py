"""The page's part about a replay: every table, refusals in words, the gate, and names that try to be markup."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.report.page import write_report
from recsys.evaluation.ab import compare_arms
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
REFUSAL = "this log cannot decide this: effective sample size 3.0 of 50 requests, 100 are needed"


GATE = {
    "metric": "ndcg@10",
    "passed": False,
    "checks": [
        {
            "slice": "new users",
            "events": 77,
            "current": 0.1,
            "candidate": 0.05,
            "difference": -0.05,
            "low": -0.08,
            "high": -0.02,
            "passed": False,
        }
    ],
    "changes": {
        "users": 200,
        "overlap": 0.625,
        "kinds": [["fewer than 5 events", 60, 0.5]],
        "enters": [["New lamp", 9]],
        "leaves": [["Old lamp", 8]],
        "examples": [{"user": "u7", "enters": ["New lamp"], "leaves": ["Old lamp"]}],
    },
}


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.01, high=value + 0.01)


def made_up() -> Replay:
    figures = {"ndcg@10": estimate(0.05), "recall@10": estimate(0.1)}
    names = ("popularity", "recsys")
    slices = {"all": 900, "category: <img src=x onerror=alert(1)>": 40}
    off_policy = {"target": "recsys", "logging": "bts", "effective_sample_size": 3.0, "estimate": estimate(0.2)}
    return Replay(
        log="a day",
        split="global time cut at 2026-01-01 00:00 UTC",
        rows=tuple(ReplayRow(recommender=who, slice=part, figures=figures) for who in names for part in slices),
        events=slices,
        note="What it cannot say.",
        over_time=tuple(
            PeriodRow(recommender=who, start=day * DAY, end=day * DAY + 5, events=300, figures=figures)
            for who in names
            for day in range(3)
        ),
        paired=tuple(
            PairedRow(recommender="recsys", compared_with="popularity", group=part, difference=figures)
            for part in slices
        ),
        costs=(
            ReplayCost(
                recommender="recsys", requests=900, milliseconds=1.5, milliseconds_p50=1.25, milliseconds_p99=9.75
            ),
        ),
        off_policy=(
            OffPolicyRow(estimator="ips", refusal=REFUSAL, **off_policy),  # type: ignore[arg-type]
            OffPolicyRow(estimator="direct method", biased=True, **off_policy),  # type: ignore[arg-type]
        ),
        ab=(compare_arms(np.zeros(50), np.ones(200), names=("old", "new"), days=2.0),),
        counts={"events": 1000, "asked": 900},
        shown=ShownRanking(
            groups={"all": 12},
            items=345,
            rows=tuple(
                ReplayRow(recommender=who, slice="all", figures={"auc": estimate(0.61), "first taken": estimate(0.4)})
                for who in names
            ),
            paired=(),
        ),
    )


@pytest.fixture
def page(run: Path, tmp_path: Path) -> str:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "reports" / "replay.json").write_text(json.dumps(made_up().to_json()))
    (copy / "reports" / "gate.json").write_text(json.dumps(GATE))
    return write_report(copy).read_text()


def test_page_when_a_log_was_replayed_then_shows_every_table_and_says_what_cannot_be_decided(page: str) -> None:
    begin = page.index('<section id="replay">')
    part = page[begin : page.index("</section>", begin)]
    for words in (
        "split: global time cut at 2026-01-01 00:00 UTC",
        "900 asked",
        REFUSAL,
        "direct method (biased)",
        "Gate against the current release: refused",
        "new users",
        "fell",
        "62.5 % of the first ten items stay",
        "Most often entering: New lamp (9).",
        "<td>fewer than 5 events</td><td>60</td><td>50.0 %</td>",
        "User u7: enters New lamp; leaves Old lamp.",
        "9.75",
        "the split 50 to 200 is not the one that was asked for",
        "What it cannot say.",
        "ndcg@10 over time",
        "Ranking what was shown",
        "<td>.6100</td>",
        "all, 12 groups",
    ):
        assert words in part, words
    assert part.count("<svg") == 2 + 2  # a small multiple a slice, a plot over time a metric


def test_page_when_a_category_is_markup_then_it_is_escaped(page: str) -> None:
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
