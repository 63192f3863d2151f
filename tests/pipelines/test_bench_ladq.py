"""The bench of precision by layer, on a small run."""

from pathlib import Path

import pytest

from pipelines.benches.ladq import bench_ladq


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_bench_ladq_when_run_then_every_precision_has_its_figures(run: Path) -> None:
    lines = {line.what: line for line in bench_ladq(run, seeds=(1, 2))}
    for name in ("bf16 in all layers", "ladq"):
        assert 0 < lines[f"{name}, mean of 2 seeds"].ours <= 1
        assert lines[f"{name}, training, processor time"].ours > 0
    assert lines["bf16 in all layers, layers in bf16"].ours == 100
    assert 0 <= lines["ladq, layers in bf16"].ours <= 100
    assert lines["fp32 in all layers, deviation of the seeds"].ours >= 0
