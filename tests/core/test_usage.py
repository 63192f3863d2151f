"""What a block takes: its own peak of memory, not that of what ran before."""

from pathlib import Path

import numpy as np
import pytest

from recsys.core.usage import measured


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a block is known on Linux only")
def test_measured_when_a_large_block_ran_before_then_its_peak_is_not_counted() -> None:
    with measured() as large:
        held = np.ones(40 * 2**20)  # 320 MiB
    del held
    with measured() as small:
        pass
    assert large.peak_memory_mb - small.peak_memory_mb > 250
    assert large.cpu_seconds > 0


def test_measured_when_the_block_fails_then_is_still_measured() -> None:
    measuring = measured()
    usage = measuring.__enter__()
    error = ZeroDivisionError()
    assert not measuring.__exit__(type(error), error, None)
    assert usage.peak_memory_mb > 0
