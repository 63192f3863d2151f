"""The bench of batch recommendation, on small made-up runs."""

import pytest

from pipelines.benches import batch
from pipelines.benches.batch import bench_batch, bench_batch_memory, parse_size
from recsys.core.errors import CallError


@pytest.mark.slow
def test_bench_batch_memory_when_runs_are_small_then_says_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MEMORY", {20: 1, 40: 2})
    monkeypatch.setattr(batch, "MEMORY_ITEMS", 60)
    lines = bench_batch_memory()
    assert [line.what for line in lines] == [
        "60 items, 20 users, peak memory of shard 0/1",
        "60 items, 40 users, peak memory of shard 0/2",
    ]
    assert all(line.ours > 50 and line.unit == "MiB" for line in lines)


@pytest.mark.slow
@pytest.mark.ray
def test_bench_batch_when_a_run_is_small_then_compares_two_processes_and_ray_with_one() -> None:
    lines = bench_batch(parse_size("60,20"))
    assert [line.what for line in lines] == [
        "60 items, 20 users, two shards in two processes",
        "60 items, 20 users, two shards in two processes, peak memory of all processes",
        "60 items, 20 users, Ray",
        "60 items, 20 users, Ray, peak memory of all processes",
    ]
    assert all(line.ours > 0 and line.peer for line in lines)
    by_what = {line.what: line.ours for line in lines}
    # the driver, its store and its scheduler are there beside the worker
    assert by_what[lines[3].what] > 1.2 * float(lines[3].peer or 0)


@pytest.mark.parametrize("text", ["10", "5,50", "a,b", "10,20,30", ""])
def test_batch_size_when_it_is_none_then_is_refused(text: str) -> None:
    with pytest.raises(CallError, match="--size must be two whole numbers"):
        parse_size(text)
