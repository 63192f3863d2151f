"""The bench of the service: both servers answer, and every line is a figure."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.benches.load import Answer
from pipelines.benches.serve import IN_A_ROW, _recovery, bench_serve


@pytest.mark.slow
def test_bench_when_a_run_is_served_then_measures_it_beside_the_peer(run: Path) -> None:
    lines = bench_serve(run, requests=60, rounds=2)
    by_name = {line.what: line for line in lines}
    asked = ("history sent", "known user", "history sent, catalogue ranked")  # the run has token experts
    assert [line.what for line in lines[:3]] == [f"ms a request at full load, {what}" for what in asked]
    *others, recovery = lines
    assert all(line.ours > 0 for line in others)
    assert recovery.unit == "s"
    assert not recovery.ours <= 0  # no number where the busy machine of a test did not recover while it was watched
    assert by_name["ms a request at full load, known user"].peer_name == "FastAPI dot product"
    # At 30 % of the highest rate nobody waits for long; the share that is answered is a share.
    assert 0 < by_name["share answered then"].ours <= 1


def test_recovery_when_answers_are_fast_again_in_a_row_then_it_is_the_first_of_them_else_no_number() -> None:
    # one answer a second from second 10 on: two slow ones, then fast ones; the overload ended at 9.5
    answers = [
        Answer(due=10.0 + second, late=0.0, seconds=0.5 if second < 2 else 0.01, status=200)
        for second in range(2 + IN_A_ROW)
    ]
    assert _recovery(answers, 9.5, 0.02) == 2.5
    assert np.isnan(_recovery(answers[:-1], 9.5, 0.02))
