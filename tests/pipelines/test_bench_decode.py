"""Bench decode on a small run: every way to ask, new and kept states, and the slates of torch."""

from pathlib import Path

import pytest

from pipelines.benches import decode
from recsys.core.errors import ArtifactError
from recsys.recommender.bundle import load_bundle


def test_bench_decode_when_a_run_has_token_experts_then_every_way_is_timed_beside_torch(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "CALLS_OF_A_RUN", 12)
    lines = {line.what: line for line in decode.bench_decode(run)}
    ways = ("paths", "no paths", "no paths, catalogue ranked")
    for way in ways:
        for state in ("history new", "states kept"):
            beside = lines[f"120 items, {way}, {state}, median of 12"]
            assert beside.peer is not None
            assert beside.ours > 0
            assert beside.peer_name == "torch"
            assert lines[f"120 items, {way}, the runtime alone, {state}, p99"].ours > 0
        assert lines[f"120 items, {way}, share of the ten items that are torch's"].ours == 1.0
        ndcg = lines[f"120 items, {way}, NDCG@10"]
        assert ndcg.ours == ndcg.peer
    assert lines["120 items, paths, steps of the best paths"].ours >= 1
    # two ways have no steps to count: 10 timed and agreeing lines each, and one of steps
    assert len(lines) == 3 * 10 + 1


def test_bench_decode_when_torch_ranks_then_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "load_served", load_bundle)
    with pytest.raises(ArtifactError, match="must be served by the runtime"):
        decode.bench_decode(run)
