"""The soak's check finds a planted leak, finds none in memory that stands still, and counts what goes wrong."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pipelines.benches.one_server import Target
from pipelines.benches.soak import LIMIT, Memory, bench_soak, resident_megabytes, slope_per_minute, soak
from tests.support.server import free_port
from tests.support.small_shop import IDS, make_run

BODY = b'{"history": [], "n": 3}'
SECONDS = 8.0


@contextmanager
def leaking(run: Path, size: int) -> Iterator[Target]:
    """Serve a run whose model keeps so many bytes a request."""
    port = free_port()
    command = [sys.executable, "-m", "tests.support.leaking_server", str(run), str(port), str(size)]
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 120
        while True:
            assert time.monotonic() < until
            try:
                if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield Target(port=port, pid=process.pid)
    finally:
        process.kill()
        process.wait()


def test_slope_when_memory_grows_after_warm_up_then_is_that_growth() -> None:
    # 100 MB more in the first quarter are warm-up; then 3 MB a minute: at 15 s 200, at 60 s 202.25.
    warm = [Memory(seconds=at, megabytes=100 + 100 * at / 15) for at in range(0, 15, 5)]
    after = [Memory(seconds=at, megabytes=200 + 3 * (at - 15) / 60) for at in range(15, 61, 5)]
    assert slope_per_minute([*warm, *after]) == pytest.approx(3.0)
    still = [Memory(seconds=at, megabytes=200 + at % 2) for at in range(0, 601, 5)]
    assert abs(slope_per_minute(still)) < LIMIT


def test_resident_megabytes_when_asked_of_this_process_then_is_what_it_holds() -> None:
    before = resident_megabytes(os.getpid())
    held = b"x" * 50_000_000
    assert resident_megabytes(os.getpid()) - before > 40
    assert len(held) == 50_000_000


def test_soak_when_a_leak_is_planted_then_it_is_caught(tmp_path: Path) -> None:
    # 300 kB a request at 20 requests a second: 6 MB a second, 360 MB a minute.
    with leaking(make_run(tmp_path / "run"), size=300_000) as target:
        soaked = soak(target, [BODY], IDS, seconds=SECONDS)
    assert soaked.leaks
    assert soaked.slope > 60
    assert not soaked.failed
    assert {answer.status for answer in soaked.answers} == {200}
    assert sum(soaked.faults.values()) > 0


@pytest.mark.slow
def test_bench_when_a_run_is_soaked_then_every_answer_is_sound(run: Path) -> None:
    by_name = {line.what: line.ours for line in bench_soak(run, seconds=SECONDS)}
    assert by_name["answers that failed"] == 0
    assert by_name[f"answers over {SECONDS:g} s"] >= 40
    assert by_name["memory at the end"] > 50
    assert "p99 while a release is swapped" in by_name
