"""The bench of the service: both servers answer, and every line is a figure."""

from pathlib import Path

import pytest

from pipelines.benches.serve import bench_serve


@pytest.mark.slow
def test_bench_when_a_run_is_served_then_measures_it_beside_the_peer(run: Path) -> None:
    lines = bench_serve(run, requests=60, rounds=2)
    by_name = {line.what: line for line in lines}
    assert {line.what.split(",")[0] for line in lines[:2]} == {"ms a request at full load"}
    assert all(line.ours > 0 for line in lines)
    assert by_name["ms a request at full load, known user"].peer_name == "FastAPI dot product"
    # At 30 % of the highest rate nobody waits for long; the share that is answered is a share.
    assert 0 < by_name["share answered then"].ours <= 1
