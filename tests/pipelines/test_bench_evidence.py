"""Bench evidence: which sources stay in each row, and its figures on a small run against a full ranking."""

from pathlib import Path

import pytest

from pipelines.benches.evidence import ALL, bench_evidence, choices_of
from recsys.core.ranking import MISS
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.recommender.bundle import load_bundle
from recsys.sequence.validation import mean_ndcg, ranks_of

OWNERS = {"a": "a", "b": "b", "a_student": "a", "b_student": "b"}
HEAD = ["generator", "members", "co-occurrence"]


def test_choices_when_there_are_two_experts_then_each_source_is_left_out_once_and_stands_alone_once() -> None:
    choices = choices_of(OWNERS, [*OWNERS, *HEAD])
    assert choices[ALL] == [*OWNERS, *HEAD]
    assert choices["without members"] == [*OWNERS, "generator", "co-occurrence"]
    assert choices["without expert a and its student"] == ["b", "b_student", *HEAD]
    assert choices["without students"] == ["a", "b", *HEAD]
    assert choices["without token experts"] == HEAD
    assert choices["members and co-occurrence"] == ["members", "co-occurrence"]
    assert choices["token experts"] == ["a", "b"]
    assert [names for name, names in choices.items() if name.endswith(" alone")] == [[one] for one in [*OWNERS, *HEAD]]


def test_choices_when_a_part_is_missing_then_no_row_is_without_sources() -> None:
    choices = choices_of({"a": "a"}, ["a"])
    assert all(choices.values())
    assert not any(name.startswith("without expert") for name in choices)


@pytest.mark.usefixtures("one_thread")
def test_bench_when_a_run_is_small_then_single_sources_rank_as_over_the_whole_catalogue(run: Path) -> None:
    lines = {(line.what, line.figure): line.ours for line in bench_evidence(run)}
    tokens, queries = load_bundle(run / "bundle").tokens, questions(load_prepared(run / "data").log, "test")
    assert tokens is not None
    for name, source in tokens.sources().items():
        wanted = mean_ndcg(source, queries.histories, queries.targets_U)
        assert lines[f"{name} alone", "N@10"] == pytest.approx(wanted, abs=1e-9)
        rank_U = ranks_of(source, queries.histories, queries.targets_U)
        found = sum(rank != MISS and rank <= 10 for rank in rank_U.tolist())  # a miss is rank 0
        assert lines[f"{name} alone", "R@10"] == pytest.approx(found / len(rank_U))
        difference = lines[f"{name} alone", "beside all, N@10"]
        assert difference == pytest.approx(wanted - lines[ALL, "N@10"], abs=1e-9)
        assert lines[f"{name} alone", "from"] <= difference <= lines[f"{name} alone", "to"]
    assert lines[ALL, "R@10"] >= lines[ALL, "N@10"]
