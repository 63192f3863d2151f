"""Several seeds and ablations of one recipe, evaluated together and written as a table."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.recipe import Recipe, StudyConfig, apply_overrides
from pipelines.study import members, read_study, run_study
from pipelines.tables import markdown_table, rewrite_table
from recsys.core.errors import CallError, ConfigError
from recsys.evaluation.metrics import recall_at
from recsys.evaluation.results import Evaluation
from recsys.recommender.token_config import ExpertsConfig


@pytest.fixture(scope="module")
def study(world: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    plan = StudyConfig(seeds=(7, 8), ablations={"no co-occurrence prior": ("model.cooccurrence=false",)})
    run_study(world, folder, recipe.model_copy(update={"study": plan}), use_ray=False)
    return folder


def test_members_when_planned_then_every_variant_has_every_seed(recipe: Recipe, tmp_path: Path) -> None:
    plan = StudyConfig(seeds=(1, 2), ablations={"plain": ("fit.epochs=1",)})
    found = members(tmp_path, recipe.model_copy(update={"study": plan}))
    assert [(m.variant, m.recipe.seed) for m in found] == [("recsys", 1), ("recsys", 2), ("plain", 1), ("plain", 2)]
    assert found[0].folder == tmp_path
    assert len({m.folder for m in found}) == 4
    assert [m.recipe.fit.epochs for m in found] == [2, 2, 1, 1]


def test_members_when_a_rival_is_fitted_once_then_only_the_first_seed_has_it(recipe: Recipe, tmp_path: Path) -> None:
    plan = StudyConfig(seeds=(1, 2), once=("sasrec",))
    found = members(tmp_path, recipe.model_copy(update={"study": plan}))
    assert "sasrec" in found[0].recipe.baselines.fitted
    assert set(found[0].recipe.baselines.fitted) - set(found[1].recipe.baselines.fitted) == {"sasrec"}


def test_study_when_a_rival_is_fitted_once_then_it_is_compared_on_the_seed_that_both_have(
    world: Path, recipe: Recipe, tmp_path: Path
) -> None:
    plan = StudyConfig(seeds=(7, 8), once=("cooccurrence",))
    fitted = recipe.baselines.model_copy(update={"fitted": ("popularity", "cooccurrence")})
    changed = {"study": plan, "baselines": fitted, "experts": ExpertsConfig()}
    result = run_study(world, tmp_path, recipe.model_copy(update=changed), use_ray=False)
    runs = {row.recommender: row.runs for row in result.rows}
    assert runs == {"popularity": 2, "cooccurrence": 1, "recsys": 2}
    ranks = np.load(tmp_path / "reports" / "ranks.npz")  # of seed 7, the only one with the rival
    first = [recall_at(ranks[f"{who}.removed"], 10).mean() for who in ("recsys", "cooccurrence")]
    line = next(x for x in result.paired if x.compared_with == "cooccurrence" and x.group == "removed")
    assert line.difference["recall@10"].value == pytest.approx(first[0] - first[1])
    assert "cooccurrence (1 of 2 seeds)" in markdown_table(result)


def test_overrides_when_wrong_then_every_fault_is_named(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match=r"model\.nonsense.*fit\.epochs"):
        apply_overrides(recipe, ("fit.epochs=many", "model.nonsense=1"))


def test_study_when_an_ablation_leaves_a_stage_alone_then_it_is_linked_from_the_plain_run(study: Path) -> None:
    plain, ablated = study, study / "study" / "no co-occurrence prior" / "seed-7"
    same = ("tokenizer/model.safetensors", "catalog/codes.parquet", "baselines/sasrec/weights.safetensors")
    assert all((plain / name).samefile(ablated / name) for name in same)
    assert not (plain / "model/model.safetensors").samefile(ablated / "model/model.safetensors")


def test_study_when_run_then_means_and_deviations_are_those_of_its_runs(study: Path) -> None:
    result = read_study(study)
    assert result is not None
    assert result.seeds == (7, 8)
    folders = [study, study / "study" / "recsys" / "seed-8"]
    rows = [
        next(
            row
            for row in json.loads((folder / "reports" / "evaluation.json").read_text())["rows"]
            if row["recommender"] == "recsys" and row["seen"] == "removed"
        )
        for folder in folders
    ]
    ours = result.row("recsys")
    values = [row["recall@10"] for row in rows]
    assert ours.accuracy["recall@10"].value == pytest.approx(sum(values) / 2)
    # two values a and b deviate by |a - b| / sqrt(2)
    assert ours.deviation["recall@10"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    assert ours.accuracy["recall@10"].low < ours.accuracy["recall@10"].value < ours.accuracy["recall@10"].high
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_study_when_compared_then_the_paired_difference_is_over_the_same_users(study: Path) -> None:
    result = read_study(study)
    assert result is not None
    ranks = [np.load(f / "reports" / "ranks.npz") for f in (study, study / "study" / "recsys" / "seed-8")]
    mean = [np.mean([recall_at(r[f"{who}.removed"], 10) for r in ranks], axis=0) for who in ("recsys", "popularity")]
    line = next(x for x in result.paired if x.compared_with == "popularity" and x.group == "removed")
    assert line.difference["recall@10"].value == pytest.approx((mean[0] - mean[1]).mean())
    low, high = line.difference["recall@10"].low, line.difference["recall@10"].high
    assert low < line.difference["recall@10"].value < high
    names = {row.recommender for row in result.rows}
    whole = {
        name for name in names if ": " not in name
    }  # the others are rankings by token paths of ours and the variant
    assert whole == {"recsys", "no co-occurrence prior", "popularity", "cooccurrence", "sasrec"}
    assert {"recsys: tokens alone (exact)", "no co-occurrence prior: tokens alone (exact)"} <= names


def test_table_when_rewritten_then_only_what_is_between_the_markers_changes(study: Path, tmp_path: Path) -> None:
    result = read_study(study)
    assert result is not None
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- table:mine -->\nyesterday\n<!-- end -->\nafter\n")
    rewrite_table(path, "mine", markdown_table(result))
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "yesterday" not in text
    assert markdown_table(result) in text
    assert "**recsys**" in text
    with pytest.raises(CallError, match="must hold the lines"):
        rewrite_table(tmp_path / "none.md", "mine", markdown_table(result))
