"""Running stages: one lock, one key, what changes under a run, what a kill leaves, settings put back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.execute import Plan, stage_settings
from pipelines.flow import evaluate_run, train
from pipelines.job import Job, Stage
from pipelines.recipe import Recipe
from pipelines.record import StageRecord, read_records
from pipelines.runtime import run_stages
from recsys.core.artifacts import Manifest
from recsys.core.errors import ArtifactError, DataError, InUseError
from recsys.core.lock import owned
from recsys.data import schema


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    source, run = tmp_path / "source", tmp_path / "run"
    source.mkdir()
    (source / schema.INTERACTIONS).write_text("one")
    Manifest(run).claim()
    return Plan(source=source, run=run, recipe=Recipe())


def copy_source(job: Job) -> None:
    (job.out / "copy").write_text((job.source / schema.INTERACTIONS).read_text())


def count_letters(job: Job) -> None:
    (job.out / "count.json").write_text(json.dumps(len((job.parent("data") / "copy").read_text())))
    job.timings["counting"] = 0.5


DATA = Stage(name="data", work=copy_source, reads_source=True)
COUNT = Stage(name="count", work=count_letters, parents=("data",), files=("count.json",))


def test_stages_when_run_twice_then_the_second_time_nothing_is_written(plan: Plan) -> None:
    first = run_stages([DATA, COUNT], plan, use_ray=False)
    written = {
        path: path.stat().st_mtime_ns for path in plan.run.rglob("*") if path.is_file() and path.name != "manifest.json"
    }
    assert (plan.run / "reports" / "count.json").read_text() == "3"
    assert run_stages([DATA, COUNT], plan, use_ray=False) == first
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert first["count"].timings == {"counting": 0.5}


def test_stages_when_the_data_set_changes_between_runs_then_run_again(plan: Plan) -> None:
    run_stages([DATA, COUNT], plan, use_ray=False)
    (plan.source / schema.INTERACTIONS).write_text("three")
    run_stages([DATA, COUNT], plan, use_ray=False)
    assert (plan.run / "reports" / "count.json").read_text() == "5"


def test_stage_when_the_data_set_changes_while_it_is_read_then_is_refused_and_leaves_nothing(plan: Plan) -> None:
    def read_and_change(job: Job) -> None:
        copy_source(job)
        (job.source / schema.INTERACTIONS).write_text("another")

    stage = Stage(name="data", work=read_and_change, reads_source=True)
    with pytest.raises(DataError, match="it changed; run the command again"):
        run_stages([stage], plan, use_ray=False)
    assert not (plan.run / "data").exists()
    assert "data" not in read_records(plan.run)


@pytest.mark.parametrize("state", ["changed", "missing"])
def test_stage_when_its_parent_is_not_as_it_was_left_then_is_refused(plan: Plan, state: str) -> None:
    run_stages([DATA], plan, use_ray=False)
    if state == "changed":
        (plan.run / "data" / "copy").write_text("by hand")
    else:
        shutil.rmtree(plan.run / "data")
    with pytest.raises(ArtifactError, match="recsys train"):
        run_stages([COUNT], plan, use_ray=False)


def test_report_when_its_file_is_gone_or_changed_then_is_made_again(plan: Plan) -> None:
    run_stages([DATA, COUNT], plan, use_ray=False)
    path = plan.run / "reports" / "count.json"
    for spoil in (path.unlink, lambda: path.write_text("9")):
        spoil()
        run_stages([COUNT], plan, use_ray=False)
        assert path.read_text() == "3"


def test_report_when_other_files_lie_beside_it_then_they_stay(plan: Plan) -> None:
    run_stages([DATA, COUNT], plan, use_ray=False)
    (plan.run / "reports" / "mine.txt").write_text("a person's")
    (plan.run / "reports" / "count.json").unlink()
    run_stages([COUNT], plan, use_ray=False)
    assert (plan.run / "reports" / "mine.txt").read_text() == "a person's"


def test_report_when_a_promised_file_is_not_written_then_is_an_error_and_leaves_nothing(plan: Plan) -> None:
    stage = Stage(name="count", work=lambda job: None, files=("count.json",))  # noqa: ARG005
    with pytest.raises(ArtifactError, match=r"count\.json was not written"):
        run_stages([stage], plan, use_ray=False)
    assert not (plan.run / "reports").exists()


def test_stage_when_it_fails_then_what_it_left_before_stays_and_nothing_temporary(plan: Plan) -> None:
    run_stages([DATA], plan, use_ray=False)
    (plan.source / schema.INTERACTIONS).write_text("three")

    def fail(job: Job) -> None:
        copy_source(job)
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        run_stages([Stage(name="data", work=fail, reads_source=True)], plan, use_ray=False)
    assert (plan.run / "data" / "copy").read_text() == "one"
    assert not list(plan.run.rglob("*.tmp"))


@pytest.mark.usefixtures("one_thread")
def test_settings_when_the_stage_ends_or_fails_then_are_what_they_were() -> None:
    torch.set_num_threads(2)
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    with stage_settings(1):
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (1, True)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    with pytest.raises(ZeroDivisionError), stage_settings(3):
        _ = 1 / 0
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_train_and_evaluate_when_another_owns_the_run_then_are_refused_before_any_work(
    world: Path, recipe: Recipe, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    Manifest(folder).claim()
    with owned(folder), pytest.raises(InUseError, match="must be free"):
        train(world, folder, recipe, use_ray=False)
    assert list(Manifest(folder).read()) == ["run"]
    with owned(run), pytest.raises(InUseError, match="must be free"):
        evaluate_run(run, recipe)


def test_record_when_an_earlier_version_kept_less_then_is_read() -> None:
    record = StageRecord.from_json({"key": "k", "files": {"a": "b"}, "parents": ["data"], "unknown": 1})
    assert record == StageRecord(key="k", files={"a": "b"}, parents=("data",))


def test_stages_when_the_data_set_cannot_be_used_then_say_so_before_ray_starts(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_job: Job) -> None:
        raise DataError("interactions must hold two events of some user, got one; import more")

    def started() -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("pipelines.runtime.ray_session", started)
    with pytest.raises(DataError, match="two events"):
        run_stages([replace(DATA, work=refuse), COUNT], plan, use_ray=True)
