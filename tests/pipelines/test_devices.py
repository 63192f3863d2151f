"""Every stage that runs a network asks where it should run."""

import sys
from pathlib import Path

import pytest

from pipelines.flow import train
from pipelines.recipe import Recipe
from pipelines.stages.baselines import placed
from recsys.baselines.rpg import RPGConfig
from recsys.baselines.sasrec import SASRecConfig
from recsys.baselines.tiger import TIGERConfig
from recsys.core import device

NETWORKS = {
    "tokenizer",
    "member",
    "model",
    "calibrated",
    "experts",
    "students",
    "tokens",
    "aligned",
    "bundle",
    "evaluation",
}
"""Stages that train or run a network."""


@pytest.mark.slow
def test_train_when_a_device_is_wanted_then_every_stage_with_a_network_asks_for_it(
    world: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, set[str]] = {}
    stage = ["none"]

    def spy(wanted: device.Device = "auto") -> object:
        asked.setdefault(stage[0], set()).add(wanted)
        return original("cpu")

    original = device.pick_device
    for module in list(sys.modules.values()):
        if getattr(module, "pick_device", None) is original and module is not device:
            monkeypatch.setattr(module, "pick_device", spy)
    from pipelines import execute

    run_stage = execute._run

    def named(one, plan, records, **rest):
        stage[0] = one.name
        return run_stage(one, plan, records, **rest)

    monkeypatch.setattr(execute, "_run", named)
    wanted = recipe.model_copy(update={"device": "cpu", "alignment": recipe.alignment.model_copy(update={"steps": 1})})
    train(world, tmp_path, wanted, use_ray=False)
    assert set(asked) >= NETWORKS
    assert {name: asked[name] for name in NETWORKS} == {name: {"cpu"} for name in NETWORKS}


def test_rivals_when_their_device_is_open_then_they_are_where_the_recipe_says() -> None:
    made = (placed(SASRecConfig(), "cpu"), placed(RPGConfig(), "cpu"), placed(TIGERConfig(), "cpu"))
    assert [one.device for one in made] == ["cpu"] * 3
    assert placed(RPGConfig(device="cuda"), "cpu").device == "cuda"  # said of the rival itself
