"""Pruning in a run, and its trade-off curve."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines.benches import pruning as bench
from pipelines.benches.pruning import CURVE, bench_pruning
from pipelines.flow import train
from pipelines.recipe import Recipe
from pipelines.report.training_sections import data_pruning
from recsys.core.artifacts import write_json
from recsys.core.errors import ConfigError
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.data.table import write_dataset


def _pruned(recipe: Recipe, teacher: Path) -> Recipe:
    pruning = {"keep": 0.5, "prefer": "hard", "distillation": 0.5, "teacher": str(teacher)}
    return Recipe.model_validate(recipe.model_dump() | {"fit": recipe.fit.model_dump() | {"pruning": pruning}})


@pytest.mark.slow
def test_train_when_pruned_then_learns_from_half_of_the_users_and_the_teacher(
    world: Path, run: Path, recipe: Recipe, tmp_path: Path
) -> None:
    train(world, tmp_path, _pruned(recipe, run), use_ray=False, reuse_from=run)
    ours, whole = (json.loads((one / "model" / "training.json").read_text())["epochs"] for one in (tmp_path, run))
    assert len(ours) == len(whole)
    assert ours[-1]["item"] != whole[-1]["item"]
    assert ours[-1]["validation"] > 0


@pytest.mark.slow
def test_train_when_the_teacher_knows_other_items_then_is_refused(run: Path, recipe: Recipe, tmp_path: Path) -> None:
    write_dataset(make_synthetic(SyntheticConfig(users=60, items=50)), tmp_path / "data")
    with pytest.raises(ConfigError, match="must be a run of the same items"):
        train(tmp_path / "data", tmp_path / "run", _pruned(recipe, run), use_ray=False)


@pytest.mark.slow
def test_bench_pruning_when_run_then_every_share_has_its_figures_and_the_report_draws_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(run, tmp_path / "run")
    monkeypatch.setattr(bench, "SHARES", (0.5,))
    monkeypatch.setattr(bench, "PREFERENCES", ("hard",))
    lines = {line.what: line for line in bench_pruning(own)}
    assert list(lines) == [
        "the whole log",
        "the whole log, training",
        "100% of users, taught",
        "100% of users, taught, training",
        "50% of users, hard",
        "50% of users, hard, training",
        "50% of users, hard, taught",
        "50% of users, hard, taught, training",
    ]
    assert all(line.ours > 0 for line in lines.values())
    assert len(data_pruning(own).plots) == 3


def test_data_pruning_when_drawn_then_choices_meet_at_the_whole_log(tmp_path: Path) -> None:
    def point(keep: float, prefer: str, taught: bool, ndcg: float) -> dict[str, object]:
        return {"keep": keep, "prefer": prefer, "taught": taught, "ndcg": ndcg, "cpu_seconds": 10 * keep}

    points = [point(1, "hard", False, 0.3), point(1, "hard", True, 0.32)]
    points += [
        point(0.5, prefer, taught, ndcg)
        for taught in (False, True)
        for prefer, ndcg in (("random", 0.2), ("hard", 0.1))
    ]
    (tmp_path / "reports").mkdir()
    write_json(tmp_path / CURVE, {"users": 5, "points": points})
    alone, taught, seconds = data_pruning(tmp_path).plots
    assert all(name in alone for name in ("random", "hard", "50%", "100%"))
    assert "easy" not in alone  # only what was tried has a line
    assert "with the teacher" in taught
    assert "without the teacher" in seconds
