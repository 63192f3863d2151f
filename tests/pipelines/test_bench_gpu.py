"""The check of a CUDA device: its work on the CPU in small, and what it says where there is none."""

from pathlib import Path

import pytest
import torch

from pipelines.benches import gpu
from pipelines.benches.gpu import Sizes, bench_gpu
from pipelines.benches.measure import as_result
from pipelines.benches.run import BenchCall, run_bench
from pipelines.show import bench_table
from recsys.core.errors import DeviceError

SMALL = Sizes(steps=2, epochs=1, items=300, users=6, single_users=2, encoded=700, features=16, block=300)


def test_bench_gpu_when_there_is_no_device_then_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="bench gpu must have a CUDA device, got none"):
        run_bench("gpu", BenchCall())


def test_bench_gpu_when_both_devices_are_one_then_both_learn_and_encode_the_same(world: Path) -> None:
    lines = {line.what: line for line in bench_gpu(world, SMALL, device=torch.device("cpu"))}
    loss = lines["item loss of the same last step"]
    assert loss.ours == pytest.approx(loss.peer, rel=1e-5)
    assert lines["codes equal on both"].ours == 1.0
    assert lines["item head after them, validation"].ours > 0
    assert {"decode, 300 items, 6 users at once", "decode, 300 items, one user"} <= set(lines)
    assert lines["encode 700 items of 16 floats"].ratio > 0
    assert bench_table(as_result("gpu", tuple(lines.values()))).row_count == len(lines)


def test_bench_gpu_when_time_is_over_then_nothing_new_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_training", "_decoding", "_encoding"):
        monkeypatch.setattr(gpu, name, lambda *_: pytest.fail("began"))
    assert bench_gpu(None, Sizes(seconds=-1), device=torch.device("cpu")) == []
