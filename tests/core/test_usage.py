"""What a block takes: its own peak of memory, not that of what ran before."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.core.usage import measured, tree_memory_mb


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


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="known on Linux only")
def test_tree_memory_when_a_child_holds_memory_then_counts_it_until_it_ends() -> None:
    alone = tree_memory_mb(os.getpid())
    hold = "held = bytearray(100 * 2**20); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert tree_memory_mb(os.getpid()) - alone > 90  # the child's 100 MiB, less what this process gave back
        child.communicate(b"\n")
    assert tree_memory_mb(child.pid) == 0
