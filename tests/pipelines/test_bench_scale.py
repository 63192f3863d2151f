"""The bench of large logs, on a small one."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.benches import large_log, scale
from pipelines.benches.large_log import MadeUpSize, write_large_log
from pipelines.benches.scale import bench_scale, measured_here, steps_of
from recsys.core.artifacts import Manifest
from recsys.core.errors import CallError
from recsys.core.usage import Usage


def test_write_large_log_when_written_in_pieces_then_has_the_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_log, "PIECE_USERS", 300)
    write_large_log(MadeUpSize(users=1000, events=8000, items=900), tmp_path)
    rows, items = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("interactions", "items"))
    assert len(rows["user_id"].unique()) == 1000
    # 1,000 geometric lengths of mean 8 and deviation 7.5: their sum is within 5 x 7.5 x 32 of 8,000
    assert abs(rows.num_rows - 8000) < 1200
    assert items.num_rows == 900
    assert len(items["title"].unique()) > 100
    by_user = rows.select(["user_id", "timestamp"])
    assert by_user.sort_by([("user_id", "ascending"), ("timestamp", "ascending")]).equals(by_user)


@pytest.mark.parametrize("text", ["10,20", "5,50,50", "100,50,100", "a,b,c", ""])
def test_log_size_when_it_is_none_then_is_refused(text: str) -> None:
    with pytest.raises(CallError, match="--size must be three whole numbers"):
        MadeUpSize.parse(text)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_steps_of_when_the_log_is_small_then_every_step_has_its_time_and_memory() -> None:
    found = steps_of(MadeUpSize.parse("300,2_400,200"), training=2, measure=measured_here)
    stages = ["stage data", "stage features", "stage tokenizer", "stage catalog"]
    assert list(found) == ["import", *stages, "2 training steps"]
    assert all(usage.seconds > 0 and usage.peak_memory_mb > 50 for usage in found.values())


def test_steps_of_when_killed_then_goes_on_behind_the_last_finished_step(tmp_path: Path) -> None:
    begun: list[str] = []

    def measure(work: Callable[..., None], *_: object) -> Usage:
        begun.append(work.__name__)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return Usage(seconds=len(begun), cpu_seconds=len(begun), peak_memory_mb=len(begun))

    size = MadeUpSize.parse("10,80,10")
    with pytest.raises(KeyboardInterrupt):
        steps_of(size, tmp_path, measure=measure)
    found = steps_of(size, tmp_path, measure=measure)
    # import and the stage data are kept; features was begun twice, tokenizer, catalog and training once
    assert begun == ["_import", *5 * ["_stage"], "_train"]
    assert [usage.cpu_seconds for usage in found.values()] == [1, 2, 4, 5, 6, 7]
    assert steps_of(size, tmp_path, measure=measure) == found


def test_steps_of_when_killed_behind_a_stage_then_counts_what_that_stage_took_and_not_finding_it_done(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    took = {"seconds": 70.0, "cpu_seconds": 60.0, "peak_memory_mb": 500}
    Manifest(tmp_path / "run").record("features", {"key": "k", "files": {}, **took})

    def measure(*_: object) -> Usage:
        return Usage(seconds=3, cpu_seconds=2, peak_memory_mb=100)

    found = steps_of(MadeUpSize.parse("10,80,10"), tmp_path, measure=measure)
    assert found["stage features"] == Usage(seconds=70, cpu_seconds=60, peak_memory_mb=500)
    assert found["stage tokenizer"] == Usage(seconds=3, cpu_seconds=2, peak_memory_mb=100)


def test_bench_scale_when_steps_are_measured_then_growth_is_that_of_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(size: MadeUpSize, _: Path | None) -> dict[str, Usage]:
        # a step that is linear, and one that takes the same for any size: 10 + 5 seconds beside 1 + 5
        linear, constant = (
            Usage(cpu_seconds=size.users / 100, peak_memory_mb=size.users),
            Usage(cpu_seconds=5, peak_memory_mb=7),
        )
        return {"import": linear, "stage data": constant}

    monkeypatch.setattr(scale, "steps_of", measured)
    lines = {line.what: line for line in bench_scale(MadeUpSize.parse("1000,8000,1000"))}
    assert (lines["import"].ours, lines["import"].peer) == (10, 1)
    assert lines["growth of the processor time (10 is linear)"].ours == pytest.approx(15 / 6)
    assert lines["largest peak memory"].ours == pytest.approx(1000 / 1024)
