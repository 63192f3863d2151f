"""The bench of batch recommendation, on small made-up runs."""

import pytest

from pipelines.benches import batch
from pipelines.benches.batch import bench_batch


@pytest.mark.slow
def test_bench_batch_when_runs_are_small_then_says_users_a_second_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "SPEED", {60: 20})
    monkeypatch.setattr(batch, "MEMORY", {20: 1, 40: 2})
    monkeypatch.setattr(batch, "MEMORY_ITEMS", 60)
    lines = bench_batch()
    assert [line.what for line in lines] == [
        "60 items, 20 users",
        "60 items, 20 users, peak memory of shard 0/1",
        "60 items, 40 users, peak memory of shard 0/2",
    ]
    assert [line.unit for line in lines] == ["users/s", "MiB", "MiB"]
    assert all(line.ours > 0 for line in lines)
