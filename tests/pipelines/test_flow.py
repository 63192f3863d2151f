"""The whole road on the synthetic world: once, twice, with one key changed, in-process and on Ray."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.flow import STAGES, train
from pipelines.recipe import Recipe, load_recipe
from pipelines.recommend import recommend_one
from pipelines.record import read_records
from pipelines.replay import replay_run
from pipelines.stages.bundle import Candidate, choose, simplest_of_the_best
from pipelines.stages.member import load_members
from recsys.baselines.ensemble import Ensemble
from recsys.baselines.sasrec import SASRec
from recsys.contracts import requests_for
from recsys.core.artifacts import Manifest, hash_folder
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions, training_log
from recsys.evaluation.replay_results import Replay
from recsys.model.calibrate import DISCOUNTS
from recsys.model.generator import Generator
from recsys.recommender.bundle import load_bundle
from recsys.sequence.id_training import fit_id_transformer
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig


def artifact_hashes(run: Path) -> dict[str, dict[str, str]]:
    return {stage.name: Manifest(run).read()[stage.name]["files"] for stage in STAGES}


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_train_when_done_then_the_report_has_every_contestant_and_the_promised_keys(run: Path) -> None:
    result = json.loads((run / "reports" / "evaluation.json").read_text())
    assert {row["recommender"] for row in result["rows"]} == {
        "recsys",
        "recsys: tokens alone (exact)",
        "recsys: tokens alone (16 paths)",
        "recsys: expert facets alone",
        "recsys: expert facets_student alone",
        "recsys: all evidence ranks the catalogue",
        "recsys: item head ranks the catalogue",
        "popularity",
        "cooccurrence",
        "sasrec",
    }
    assert {row["seen"] for row in result["rows"]} == {"kept", "removed"}
    promised = {
        "recommender",
        "seen",
        "recall@5",
        "ndcg@5",
        "recall@10",
        "ndcg@10",
        "coverage",
        "std",
        "interval",
        "train_seconds",
    }
    assert all(promised <= set(row) for row in result["rows"])


def test_train_when_sasrec_has_no_settings_then_it_is_the_member_and_as_if_fitted_alone_in_its_precision(
    run: Path, recipe: Recipe
) -> None:
    log = load_prepared(run / "data").log
    rival = SASRec.load(run / "baselines" / "sasrec")
    seed, validation = derive_seed(recipe.seed, "sasrec"), questions(log, "validation")
    with one_thread():  # as stages have; sums in another order would be other weights
        alone = fit_id_transformer(
            training_log(log),
            rival.config,
            seed=seed,
            name=SASRec.name,
            device=torch.device("cpu"),
            validation=validation,
            precision=recipe.precision,
        )
    member, _ = IdTransformer.load(run / "member", IdTransformerConfig)
    for name, weights in alone.state_dict().items():
        assert torch.equal(weights, rival.network.state_dict()[name]), name
        assert torch.equal(member.state_dict()[name], rival.network.state_dict()[name]), name


def test_train_when_there_are_two_members_then_the_head_has_both_and_the_ensemble_rival_is_made_of_them(
    world: Path, run: Path, tmp_path: Path
) -> None:
    told = ("further_members=1", 'baselines.fitted=["ensemble"]', "experts.trained=[]", "evaluation.max_users=20")
    train(world, tmp_path, load_recipe("smoke", told), use_ray=False, reuse_from=run)
    (first, _), (second, _) = load_members(tmp_path / "member", tmp_path / "further_members")
    assert hash_folder(tmp_path / "member") == hash_folder(run / "member")
    assert not torch.equal(first.items.weight, second.items.weight)
    rival = Ensemble.load(tmp_path / "baselines" / "ensemble")
    assert torch.equal(rival.first.network.items.weight, first.items.weight)
    assert torch.equal(rival.second.network.items.weight, second.items.weight)
    config = json.loads((tmp_path / "calibrated" / "config.json").read_text())
    assert len(config["members"]) == 2


def test_train_when_nothing_changed_then_runs_nothing(world: Path, run: Path, recipe: Recipe) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    entries = Manifest(run).read()
    train(world, run, recipe, use_ray=False)
    assert Manifest(run).read() == entries
    assert {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")} == before


@pytest.mark.parametrize("files", [{}, {"part.json": "{}"}])
def test_stage_when_its_folder_is_gone_then_is_not_current(tmp_path: Path, files: dict[str, str]) -> None:
    # A stage without rivals leaves an empty folder: no file is missing when that is gone, and yet it is needed.
    folder = tmp_path / "baselines"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    manifest = Manifest(tmp_path)
    manifest.record("baselines", {"key": "k", "files": hash_folder(folder)})
    assert manifest.is_current("baselines", "k", folder)
    shutil.rmtree(folder)
    assert not manifest.is_current("baselines", "k", folder)


@pytest.mark.slow
def test_train_when_the_precision_is_named_then_the_manifest_has_it_and_the_other_gives_another_model(
    world: Path, run: Path, tmp_path: Path
) -> None:
    hashes = {}
    for precision, arithmetic in (("fp32", "float32"), ("bf16", "bfloat16")):
        folder = tmp_path / precision
        train(world, folder, load_recipe("smoke", (f"precision={precision}",)), use_ray=False, reuse_from=run)
        records = read_records(folder)
        assert {records[name].arithmetic for name in ("member", "model", "experts", "students", "aligned")} == {
            arithmetic
        }
        assert {records[name].arithmetic for name in ("data", "tokenizer", "bundle")} == {"float32"}
        hashes[precision] = records["model"].files["model.safetensors"]
    assert hashes["fp32"] != hashes["bf16"]


@pytest.mark.slow
def test_train_when_one_key_changes_then_only_what_depends_on_it_runs(world: Path, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    changed = load_recipe("smoke", ("alignment.steps=1",))
    before = {name: entry["key"] for name, entry in Manifest(copy).read().items()}
    train(world, copy, changed, use_ray=False)
    after = {name: entry["key"] for name, entry in Manifest(copy).read().items()}
    stages = {stage.name for stage in STAGES}
    assert {name for name in stages if before[name] != after[name]} == {"aligned", "bundle"}


@pytest.mark.slow
def test_train_when_rare_items_get_what_accuracy_leaves_then_the_bundle_has_a_discount_that_was_tried(
    world: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "copy")
    keys = ("alignment.steps=1", "selection.keep=aligned", "selection.popularity_discount=true")
    train(world, tmp_path / "copy", load_recipe("smoke", keys), use_ray=False)
    counts_N = training_log(load_prepared(run / "data").log).counts_N
    bundle = load_bundle(tmp_path / "copy" / "bundle", trace=False)
    before, after = (
        one.head.bias_N for one in (Generator.load(tmp_path / "copy" / "aligned"), bundle.generative.scorer.generator)
    )
    log_N = torch.from_numpy(np.log(np.maximum(counts_N, 1))).float()
    found = float(((before - after) @ log_N) / (log_N @ log_N))
    assert min(abs(found - tried) for tried in (*DISCOUNTS, 0.0)) < 1e-6
    torch.testing.assert_close(after, before - found * log_N)


@pytest.mark.slow
def test_train_when_seed_is_the_same_then_artifacts_and_recommendations_are_equal(
    world: Path, run: Path, recipe: Recipe, tmp_path: Path
) -> None:
    train(world, tmp_path, recipe, use_ray=False)
    assert artifact_hashes(tmp_path) == artifact_hashes(run)


@pytest.mark.ray
@pytest.mark.slow
def test_train_when_on_ray_then_artifacts_equal_those_made_in_process(
    world: Path, run: Path, recipe: Recipe, tmp_path: Path
) -> None:
    train(world, tmp_path, recipe, use_ray=True)
    assert artifact_hashes(tmp_path) == artifact_hashes(run)


def test_recommend_when_asked_for_all_users_then_items_exist_are_unseen_and_distinct(run: Path) -> None:
    bundle, log = load_bundle(run / "bundle"), load_prepared(run / "data").log
    histories = [log.history(user) for user in range(log.num_users)]
    for history, slate in zip(histories, bundle.recommender.recommend(requests_for(histories, n=10)), strict=True):
        assert len(slate.items) == 10
        assert len(set(slate.items)) == 10
        assert not set(slate.items) & set(history.items)
        assert slate.items.min() >= 0
        assert slate.items.max() < log.num_items
        assert (np.diff(slate.scores) <= 0).all()


def test_recommend_one_when_explained_then_paths_lead_to_the_item(run: Path) -> None:
    bundle = load_bundle(run / "bundle")
    ids = [str(item) for item in bundle.catalogue.item_ids[:3]]
    answer = recommend_one(run, ",".join(ids), n=5, by="paths").to_json(explain=True)
    rows = {item: row for row, item in enumerate(bundle.catalogue.item_ids)}
    assert any(item["paths"] for item in answer["items"])
    for item in answer["items"]:
        for path in item["paths"]:
            for step in path["steps"]:
                assert bundle.catalogue.codes_NM[rows[item["item_id"]], step["codebook"]] == step["code"]


def test_replay_when_run_then_every_figure_has_an_interval(run: Path, recipe: Recipe) -> None:
    result = replay_run(run, recipe)
    assert {row.slice for row in result.rows} == {name for name, count in result.events.items() if count}
    assert all(set(row.figures) == {"recall@10", "ndcg@10"} for row in result.rows)
    # an interval of no width would mean that users were not drawn anew
    assert any(figure.low < figure.value < figure.high for row in result.rows for figure in row.figures.values())
    assert json.loads((run / "reports" / "replay.json").read_text()) == result.to_json()
    assert Replay.from_json(result.to_json()) == result


def candidate(model: str, weight: float, ndcg: float) -> Candidate:
    return Candidate(model=model, path_weight=weight, theta=None, recall=0.0, ndcg=ndcg)


def test_choose_when_the_aligned_model_is_a_little_better_then_keeps_it_but_not_a_little_more_path_evidence() -> None:
    before = [candidate("pre-trained", 0.0, 0.0700), candidate("pre-trained", 0.1, 0.0704)]
    after = [candidate("aligned", 0.0, 0.0701), candidate("aligned", 0.1, 0.0705)]

    def chosen(keep: str) -> tuple[str, float]:
        best = choose(before + after, keep=keep, margin=0.001)
        return best.model, best.path_weight

    assert chosen("better") == chosen("aligned") == ("aligned", 0.0)
    assert chosen("pre-trained") == ("pre-trained", 0.0)
    after = [candidate("aligned", 0.0, 0.0700), candidate("aligned", 0.1, 0.0700)]  # as good is not better
    assert chosen("better") == ("pre-trained", 0.0)


def test_choice_when_a_later_one_is_better_by_less_than_the_margin_then_the_simpler_is_kept() -> None:
    tried = [candidate("plain", 0.0, 0.070), candidate("paths", 0.0, 0.0706), candidate("more", 0.0, 0.0712)]
    assert simplest_of_the_best(tried, margin=0.001).model == "more"  # .0712 beats .0700 by more than .001
    assert simplest_of_the_best(tried, margin=0.002).model == "plain"
    assert simplest_of_the_best(tried[:2], margin=0.001).model == "plain"
    assert simplest_of_the_best(tried[:2], margin=0.0).model == "paths"
