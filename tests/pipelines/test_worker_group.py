"""Several workers of Ray Train: the loss curve of one, a lost worker survived, errors as they were raised."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.execute import Plan
from pipelines.flow import STAGES
from pipelines.ray_session import RaySession, WorkerGroup, ray_session
from pipelines.recipe import Recipe
from pipelines.record import read_records
from pipelines.runtime import run_stages
from recsys.core.errors import CallError, DataError, WorkerError
from tests.support.toy_training import EPOCHS, die_once, train_toy

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray Data, which Ray Train imports


@pytest.fixture(scope="module")
def session() -> Iterator[RaySession]:
    with ray_session() as opened:
        yield opened


def group(folder: Path, *, least: int = 2, most: int = 2) -> WorkerGroup:
    return WorkerGroup(name="stage toy", least=least, most=most, threads=1, gpu=False, folder=folder / "ray")


def refuse(_: Path) -> None:
    raise DataError("rows must have a user, got none; add the column")


def divide(_: Path) -> float:
    return 1 / 0


@pytest.mark.ray
@pytest.mark.slow
def test_training_when_a_worker_is_killed_then_goes_on_from_the_last_checkpoint(
    session: RaySession, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole = train_toy(tmp_path / "whole")
    found = session.train(group(tmp_path), die_once, tmp_path)
    assert (tmp_path / "died").exists()
    # two batches an epoch: killed in the fourth epoch, so three were done and three are left
    assert (found["workers"], found["epochs here"]) == (2, 3)
    assert len(list(tmp_path.glob("validated-*"))) == EPOCHS
    assert found["weight"] == pytest.approx(whole["weight"], rel=1e-5)


@pytest.mark.ray
@pytest.mark.long
def test_training_when_a_worker_refuses_or_fails_then_is_not_started_again(session: RaySession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rows must have a user, got none; add the column$"):
        session.train(group(tmp_path, least=1, most=1), refuse, tmp_path)
    with pytest.raises(WorkerError, match=r"^stage toy failed in another process: ZeroDivisionError: .*one worker"):
        session.train(group(tmp_path, least=1, most=1), divide, tmp_path)


@pytest.mark.ray
@pytest.mark.slow
def test_training_when_the_cluster_is_too_small_then_is_refused_at_once(session: RaySession, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="workers must find a core for each of their threads"):
        session.train(group(tmp_path, least=session.cores + 1, most=session.cores + 1), refuse, tmp_path)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("session")
def test_stages_when_two_workers_train_then_losses_and_ranking_are_those_of_one(
    run: Path, world: Path, recipe: Recipe, tmp_path: Path
) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "model")
    plan = Plan(source=world, run=again, recipe=recipe.model_copy(update={"workers": 2}))
    run_stages([stage for stage in STAGES if stage.name == "model"], plan, use_ray=True)
    assert read_records(again)["model"].workers == 2
    one, two = (json.loads((folder / "model" / "training.json").read_text())["epochs"] for folder in (run, again))
    assert len(two) == len(one)
    for name in ("item", "category"):
        np.testing.assert_allclose([epoch[name] for epoch in two], [epoch[name] for epoch in one], rtol=0.03)
    assert not list((again / ".work").glob("*.tmp"))


def test_stages_when_several_workers_are_wanted_without_ray_then_refuses(tmp_path: Path) -> None:
    plan = Plan(source=tmp_path, run=tmp_path, recipe=Recipe(workers=2))
    with pytest.raises(CallError, match=r"workers must be 1, or \[1, n\].*got 2"):
        run_stages([replace(STAGES[0], by_workers=True)], plan, use_ray=False)


@pytest.mark.parametrize("workers", [0, [2, 1], [0, 3]])
def test_recipe_when_workers_make_no_sense_then_says_what_does(workers: object) -> None:
    with pytest.raises(ValueError, match=r"\[least, most\] with 1 <= least <= most"):
        Recipe.model_validate({"workers": workers})
    assert Recipe.model_validate({"workers": [1, 4]}).worker_range == (1, 4)
