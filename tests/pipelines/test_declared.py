"""Stages are handed what they declare: a read of more is an error, and exactly what is declared makes the key."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from pipelines.declared import ALWAYS, declared, settings
from pipelines.execute import Plan, stage_key
from pipelines.flow import EVALUATIONS, STAGES
from pipelines.job import Job, Stage
from pipelines.recipe import Recipe
from pipelines.record import StageRecord
from recsys.core.config import Neutral
from recsys.core.errors import UndeclaredError
from recsys.model.config import FitConfig

EVERY_STAGE = (*STAGES, *EVALUATIONS.values())


def leaves(config: BaseModel, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every single setting of a recipe."""
    found = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        found += leaves(value, (*path, name)) if isinstance(value, BaseModel) else [(*path, name)]
    return found


def changed(config: Any, path: tuple[str, ...]) -> Any:
    """Return a configuration in which one setting has another value, valid or not."""
    name, *below = path
    value = getattr(config, name)
    return config.model_copy(update={name: changed(value, tuple(below)) if below else other(value)})


def other(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return value is None or not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    return {"x": ("y",)} if isinstance(value, dict) else (*value, "x")


def is_declared(path: tuple[str, ...], stage: Stage) -> bool:
    """Tell whether a setting or a section that holds it is declared."""
    return any(path[: len(one.split("."))] == tuple(one.split(".")) for one in (*ALWAYS, *stage.sections))


@pytest.mark.parametrize("stage", EVERY_STAGE, ids=lambda stage: stage.name)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_key_when_one_setting_changes_then_changes_if_and_only_if_it_is_declared(stage: Stage, tmp_path: Path) -> None:
    recipe = Recipe()
    parents = [StageRecord(key="k", files={"f": parent}) for parent in stage.parents]

    def key(some: Recipe) -> str:
        return stage_key(stage, Plan(source=tmp_path, run=tmp_path, recipe=some), parents)

    plain = key(recipe)
    settings_seen = leaves(recipe)
    assert len(settings_seen) > 100
    wrong = [path for path in settings_seen if (key(changed(recipe, path)) != plain) != is_declared(path, stage)]
    assert wrong == []


@pytest.mark.parametrize("stage", EVERY_STAGE, ids=lambda stage: stage.name)
def test_key_when_a_parents_files_change_then_changes(stage: Stage, tmp_path: Path) -> None:
    plan = Plan(source=tmp_path, run=tmp_path, recipe=Recipe())
    parents = [StageRecord(key="k", files={"f": parent}) for parent in stage.parents]
    plain = stage_key(stage, plan, parents)
    for place in range(len(parents)):
        others = [*parents[:place], StageRecord(key="k", files={"f": "other"}), *parents[place + 1 :]]
        assert stage_key(stage, plan, others) != plain


class FitWithWarmup(FitConfig):
    """Pre-training as a later version may have it."""

    warmup: Annotated[int, Neutral(0)] = 0


class LaterRecipe(Recipe):
    """A recipe as a later version may have it."""

    fit: FitWithWarmup = FitWithWarmup()


def test_key_when_a_version_adds_a_neutral_setting_then_changes_only_with_its_value(tmp_path: Path) -> None:
    stage = next(stage for stage in STAGES if stage.name == "model")
    parents = [StageRecord(key="k", files={}) for _ in stage.parents]

    def key(some: Recipe) -> str:
        return stage_key(stage, Plan(source=tmp_path, run=tmp_path, recipe=some), parents)

    assert key(LaterRecipe()) == key(Recipe())
    assert key(LaterRecipe(fit=FitWithWarmup(warmup=5))) != key(Recipe())


def test_key_when_the_release_changes_then_stays_within_a_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(release: str) -> str:
        monkeypatch.setattr("pipelines.execute.version", lambda _: release)
        return stage_key(STAGES[0], Plan(source=tmp_path, run=tmp_path, recipe=Recipe()), [])

    assert key("0.2.0") == key("0.2.7") == key("0.2.8rc1")
    assert len({key("0.2.0"), key("0.3.0"), key("1.2.0")}) == 3


def job_of(stage: Stage) -> Job:
    nowhere = Path("nowhere")
    return Job(stage=stage, run=nowhere, out=nowhere, data_set=nowhere, resolved=Recipe(), checkpoints=nowhere)


def nothing(job: Job) -> None:
    """Do nothing."""


def test_job_when_more_is_read_than_declared_then_is_an_error_that_names_it() -> None:
    job = job_of(Stage(name="mine", work=nothing, parents=("data",), sections=("fit", "model.max_history")))
    assert job.recipe.fit.epochs == Recipe().fit.epochs
    assert job.recipe.model.max_history == Recipe().model.max_history
    assert job.recipe.seed == Recipe().seed
    assert job.parent("data") == Path("nowhere/data")
    with pytest.raises(UndeclaredError, match=r"mine.*read of model\.dropout; add it to the sections"):
        _ = job.recipe.model.dropout
    with pytest.raises(UndeclaredError, match="read of alignment"):
        _ = job.recipe.alignment
    with pytest.raises(UndeclaredError, match="read of features; add it to the parents"):
        job.parent("features")
    with pytest.raises(UndeclaredError, match="reads_source"):
        _ = job.source


def test_settings_when_declared_by_path_then_are_what_can_be_read() -> None:
    recipe = Recipe()
    assert settings(recipe, ("model.max_history", "device")) == {
        "seed": recipe.seed,
        "threads": recipe.threads,
        "device": recipe.device,
        "model": {"max_history": recipe.model.max_history},
    }
    assert declared(recipe, "mine", ("model",)).model == recipe.model
