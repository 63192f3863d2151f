"""Several seeds and ablations of one recipe, evaluated together and written as a table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.recipe import Recipe, StudyConfig, apply_overrides
from pipelines.study import Member, members, read_study, run_study, save_study, summarise
from pipelines.tables import markdown_table, rewrite_table
from recsys.core.errors import CallError, ConfigError
from recsys.evaluation.metrics import recall_at
from recsys.evaluation.results import METRICS, Estimate, Evaluation, EvaluationRow
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


def _evaluated(folder: Path, variant: str, recipe: Recipe, *, recommenders: tuple[str, ...], seed: int) -> Member:
    """Return a run of which only the reports are there; every target is first."""
    (folder / "reports").mkdir(parents=True)
    sure = dict.fromkeys(METRICS, Estimate(value=1.0, low=1.0, high=1.0))
    rows = [EvaluationRow(recommender=name, seen="removed", accuracy=sure, coverage=1.0) for name in recommenders]
    result = Evaluation(dataset="made up", split="test", users=3, items=9, seeds=(seed,), rows=tuple(rows))
    (folder / "reports" / "evaluation.json").write_text(json.dumps(result.to_json()))
    ranks: dict[str, Any] = {f"{name}.removed": np.ones(3, np.int32) for name in recommenders}
    np.savez(folder / "reports" / "ranks.npz", **ranks)
    return Member(variant=variant, recipe=recipe.model_copy(update={"seed": seed}), folder=folder)


def test_summary_when_a_variant_ranks_by_other_paths_then_they_have_a_row_but_no_counterpart(
    recipe: Recipe, tmp_path: Path
) -> None:
    # how many paths are searched is chosen in each run: ours has 64 with seed 1 and 128 with seed 2
    exact, few, many = (f"recsys: tokens alone ({how})" for how in ("exact", "64 paths", "128 paths"))
    found = summarise(
        [
            _evaluated(tmp_path / "1", "recsys", recipe, recommenders=("recsys", exact, few), seed=1),
            _evaluated(tmp_path / "2", "recsys", recipe, recommenders=("recsys", exact, many), seed=2),
            _evaluated(tmp_path / "3", "less", recipe, recommenders=("recsys", exact, many), seed=1),
        ]
    )
    assert {(row.recommender, row.runs) for row in found.rows} == {
        ("recsys", 2),
        (exact, 2),
        (few, 1),
        (many, 1),
        ("less", 1),
        ("less: tokens alone (exact)", 1),
        ("less: tokens alone (128 paths)", 1),
    }
    assert {(line.recommender, line.compared_with) for line in found.paired} == {
        ("recsys", exact),
        ("recsys", few),
        ("recsys", many),
        ("recsys", "less"),
        (exact, "less: tokens alone (exact)"),
    }


@pytest.mark.parametrize("name", ["recsys", "sasrec", "a/b", "..", ""])
def test_members_when_an_ablation_has_the_name_of_others_or_is_no_folder_then_it_is_refused(
    recipe: Recipe, tmp_path: Path, name: str
) -> None:
    plan = StudyConfig(ablations={name: ("fit.epochs=1",)})
    with pytest.raises(ConfigError, match=r"study\.ablations must have names of their own.*rename"):
        members(tmp_path, recipe.model_copy(update={"study": plan}))


def test_study_when_its_first_run_is_evaluated_anew_then_it_is_no_longer_the_runs(
    recipe: Recipe, tmp_path: Path
) -> None:
    result = summarise([_evaluated(tmp_path, "recsys", recipe, recommenders=("recsys",), seed=1)])
    save_study(tmp_path, result)
    assert read_study(tmp_path) == result
    (tmp_path / "reports" / "evaluation.json").write_text("{}")  # as after a training with another recipe
    assert read_study(tmp_path) is None
    assert read_study(tmp_path / "none") is None


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
