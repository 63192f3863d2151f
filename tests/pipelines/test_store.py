"""A run at a URL: what one machine made another finds, goes on from, and does not make again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from pipelines.cli_options import Run
from pipelines.execute import Plan
from pipelines.flow import claim_run, train
from pipelines.job import Job, Stage
from pipelines.recipe import Recipe
from pipelines.runtime import run_stages
from pipelines.store import WORKING, RunStore, url_of
from recsys.core.artifacts import hash_folder
from recsys.core.errors import CallError, DataError
from recsys.core.training import Training
from recsys.data import schema

RAN: list[str] = []


def copy_source(job: Job) -> None:
    RAN.append("data")
    (job.out / "copy").write_text((job.source / schema.INTERACTIONS).read_text())


def count_letters(job: Job) -> None:
    RAN.append("count")
    (job.out / "count.json").write_text(json.dumps(len((job.parent("data") / "copy").read_text())))


def fit(job: Job) -> None:
    """Train two epochs; the first time it dies after one."""
    network = nn.Linear(1, 1)
    one = Training(network, learning_rate=0.1, weight_decay=0.0, share_of_rate=lambda _: 1.0)
    went_on = one.restore(job.checkpoints / "checkpoint.pt")
    one.epochs_done += 1
    one.save(job.checkpoints / "checkpoint.pt")
    if not went_on:
        raise DataError("the machine is gone")
    torch.save(network.state_dict(), job.out / "weights.pt")
    (job.out / "epochs.json").write_text(json.dumps(one.epochs_done))


DATA = Stage(name="data", work=copy_source, reads_source=True)
COUNT = Stage(name="count", work=count_letters, parents=("data",), files=("count.json",))
FIT = Stage(name="fit", work=fit, parents=("data",))


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket/night" if request.param == "file" else f"memory://{tmp_path.name}/night"


def plan_on(machine: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return the plan of a run at a URL as a machine with folders of its own has it."""
    monkeypatch.setenv(WORKING, str(tmp_path / machine))
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / schema.INTERACTIONS).write_text("one")
    store = RunStore(url=url)
    run = store.begin()
    claim_run(source, run)
    return Plan(source=source, run=run, recipe=Recipe(), store=store)


def test_run_when_another_machine_goes_on_then_finds_all_and_makes_nothing_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RAN.clear()
    first = plan_on("first", url, tmp_path, monkeypatch)
    records = run_stages([DATA, COUNT], first, use_ray=False)
    second = plan_on("second", url, tmp_path, monkeypatch)
    assert second.run != first.run
    made = {name: value for name, value in hash_folder(first.run).items() if not name.startswith(".work")}
    assert {name: value for name, value in hash_folder(second.run).items() if not name.startswith(".work")} == made
    assert {"data/copy", "reports/count.json", "manifest.json"} <= set(made)
    assert run_stages([DATA, COUNT], second, use_ray=False) == records
    assert RAN == ["data", "count"]


def test_run_when_a_file_at_the_url_is_not_what_was_made_then_its_stage_runs_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RAN.clear()
    first = plan_on("first", url, tmp_path, monkeypatch)
    run_stages([DATA, COUNT], first, use_ray=False)
    (first.run / "data" / "copy").write_text("half")
    assert first.store is not None
    first.store.push_folder(first.run / "data")
    second = plan_on("second", url, tmp_path, monkeypatch)
    run_stages([DATA, COUNT], second, use_ray=False)
    assert RAN == ["data", "count", "data"]
    assert (second.run / "data" / "copy").read_text() == "one"


def test_training_when_its_machine_is_lost_then_another_goes_on_from_the_checkpoint(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan_on("first", url, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="the machine is gone"):
        run_stages([DATA, FIT], first, use_ray=False)
    second = plan_on("second", url, tmp_path, monkeypatch)
    run_stages([DATA, FIT], second, use_ray=False)
    assert json.loads((second.run / "fit" / "epochs.json").read_text()) == 2
    third = plan_on("third", url, tmp_path, monkeypatch)
    assert not list((third.run / ".work").rglob("checkpoint.pt"))


def test_stage_when_an_earlier_version_of_it_made_more_then_that_goes(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_more(job: Job) -> None:
        copy_source(job)
        (job.out / "more").touch()

    first = plan_on("first", url, tmp_path, monkeypatch)
    run_stages([replace(DATA, work=make_more)], first, use_ray=False)
    second = plan_on("second", url, tmp_path, monkeypatch)
    (second.source / schema.INTERACTIONS).write_text("two")
    run_stages([DATA], second, use_ray=False)
    again = plan_on("first", url, tmp_path, monkeypatch)
    assert sorted(path.name for path in (again.run / "data").iterdir()) == ["copy"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("s3://bucket/runs/night", "s3://bucket/runs/night"),
        ("file:///data/night", "file:///data/night"),
        ("memory://night", "memory://night"),
        ("runs/night", None),
        ("/runs/night", None),
        ("c:/night", None),
    ],
)
def test_url_when_given_as_a_path_then_is_what_it_was(given: str, wanted: str | None) -> None:
    assert url_of(Path(given)) == wanted


def test_claim_when_a_url_is_given_where_a_folder_is_wanted_then_refuses(tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"must be written to a folder, got --to s3://bucket/night"):
        claim_run(tmp_path, Path("s3://bucket/night"))


def test_train_when_a_run_is_at_a_url_then_it_is_claimed_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKING, str(tmp_path / "working"))
    with pytest.raises(DataError):
        train(tmp_path / "nothing", Path(f"file://{tmp_path}/bucket/night"), Recipe(), use_ray=False)
    assert not (tmp_path / "bucket" / "night" / "data").exists()


def test_verbs_when_a_run_is_at_a_url_then_read_a_copy_of_it_and_push_what_they_report(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan_on("first", url, tmp_path, monkeypatch)
    run_stages([DATA, COUNT], first, use_ray=False)
    monkeypatch.setenv(WORKING, str(tmp_path / "second"))
    app, seen = typer.Typer(), []

    @app.command()
    def verb(run: Run) -> None:
        seen.append((run / "data" / "copy").read_text())
        (run / "reports" / "page.html").write_text("a page")

    result = CliRunner().invoke(app, [url])
    assert result.exit_code == 0, result.output
    assert seen == ["one"]
    store = RunStore(url=url)
    store.fetch_folder(plan_on("third", url, tmp_path, monkeypatch).run / "reports")
    assert (store.working / "reports" / "page.html").read_text() == "a page"
