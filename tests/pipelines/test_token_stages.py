"""The stages of token models on the synthetic world."""

import copy
import json
import shutil
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.flow import train
from pipelines.recipe import Recipe, load_recipe
from pipelines.recommend import recommend_one
from pipelines.record import read_records
from pipelines.stages.bundle import reweighed
from pipelines.stages.evaluate import beside_served
from pipelines.stages.token_search import (
    RELIABILITY,
    choose_search,
    reliability,
    restrict_codebooks,
    with_faithfulness,
)
from pipelines.stages.tokens import served_weights
from recsys.codes.catalogue import Catalogue
from recsys.contracts import History, ItemScores, Request, requests_for
from recsys.core.errors import ArtifactError, CallError, ConfigError
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.marginal_search import MarginalSearch
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.evaluation.results import Evaluation
from recsys.features.assemble import FeatureBuilder
from recsys.features.item_vectors import Features
from recsys.model.generator import Generator
from recsys.model.tokens.mixture import TokenMixture
from recsys.recommender.bundle import load_bundle
from recsys.recommender.evidence import head_of
from recsys.recommender.manifest import FILE, read_manifest, write_manifest
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.token_config import TokensConfig
from recsys.recommender.token_experts import TokenChoices
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.weights import FACTORS, ValidationScores
from recsys.tokenizer.kinds import load_tokenizer
from tests.support.tiny_tokens import circle_codes, histories, tiny_model

RANKING = '{name="ranking", as_new=true, tokenizer={kind="opq", num_codebooks=3, codebook_size=16}}'
TWO = f'experts.trained=[{RANKING}, {{name="facets", distilled=false}}]'


ALONE = ('experts.trained=[{name="facets", distilled=false}]',)


def _scored(**target_XU: list[float]) -> ValidationScores:
    """Sources that give each user's target these scores and eleven other items none: a rank of one or of twelve."""
    score_XUZ = np.zeros((len(target_XU), 4, 12), np.float32)
    score_XUZ[:, :, 0] = list(target_XU.values())
    return ValidationScores(names=tuple(target_XU), score_XUZ=score_XUZ, found_U=np.ones(4, np.bool_))


def test_weights_when_the_student_knows_all_that_its_expert_does_then_the_expert_has_none() -> None:
    scored = _scored(expert=[1, 1, 1, -1], student=[1, 1, 1, 1], head=[-1, -1, -1, -1])
    alone, ranked = served_weights(scored, distilled={"expert"}, config=TokensConfig(undistilled_margin=0.001))
    assert alone.weights == {"expert": 0.0, "student": 1.0}
    assert ranked.weights["expert"] == 0.0
    assert alone.ndcg == ranked.ndcg == 1.0


@pytest.mark.parametrize(("margin", "kept"), [(0.001, True), (0.6, False), (None, True)])
def test_weights_when_the_expert_knows_what_its_student_does_not_then_the_margin_decides(
    margin: float | None, kept: bool
) -> None:
    # equal shares (.35 - .175 - .03 > 0) have all four targets first; the student alone has two: it loses half
    scored = _scored(expert=[1, 1, -0.5, -0.5], student=[-0.5, -0.5, 1, 1], head=[-0.1, -0.1, -0.1, -0.1])
    alone, ranked = served_weights(scored, distilled={"expert"}, config=TokensConfig(undistilled_margin=margin))
    assert (alone.weights["expert"] > 0, ranked.weights["expert"] > 0) == (kept, kept)
    assert alone.ndcg == ranked.ndcg == (1.0 if kept else 0.5)


def _histories(run: Path) -> list[History]:
    return list(questions(load_prepared(run / "data").log, "test").histories[:20])


def _head(run: Path) -> ItemScores:
    return head_of(GeneratorScorer(Generator.load(run / "calibrated")))


def test_tokens_when_trained_then_every_slate_of_paths_comes_with_the_paths_that_reached_it(run: Path) -> None:
    ranker = TokenRanker.load(run / "tokens")
    codes_NM = ranker.catalogue.codes_NM
    for ways in (ranker.tokens_only(trace=True), ranker.all_evidence(_head(run), trace=True)):
        recommender = ways.paths
        for slate in recommender.recommend(requests_for(_histories(run), n=5)):
            assert len(slate.items) == 5
            reached = [bool(found) for found in slate.paths]
            assert reached[0]
            # items that no path reached fill a slate up, below the others
            assert reached == sorted(reached, reverse=True)
            for item, found in zip(slate.items.tolist(), slate.paths, strict=True):
                assert all(codes_NM[item, step.codebook] == step.code for path in found for step in path.steps)


@pytest.mark.parametrize("pruning", ["none", "weibull"])
def test_tokens_when_their_paths_are_searched_by_compiled_code_then_slates_are_those_of_the_readable_search(
    run: Path, pruning: str
) -> None:
    ranker, requests = TokenRanker.load(run / "tokens"), requests_for(_histories(run), n=10)
    for ways in (ranker.tokens_only(trace=True), ranker.all_evidence(_head(run), trace=True)):
        fast = ways.paths.variant("", pruning=pruning)
        slow = copy.copy(fast)
        slow.searcher = MarginalSearch
        assert fast.searcher is not MarginalSearch
        for one, other in zip(fast.recommend(requests), slow.recommend(requests), strict=True):
            np.testing.assert_array_equal(one.items, other.items)
            np.testing.assert_array_equal(one.scores, other.scores)
            assert [[path.steps for path in found] for found in one.paths] == [
                [path.steps for path in found] for found in other.paths
            ]


def test_evaluation_when_other_ways_to_rank_are_asked_too_then_each_row_is_what_its_recommender_gets_alone(
    run: Path,
) -> None:
    evaluation = Evaluation.from_json(json.loads((run / "reports" / "evaluation.json").read_text()))
    found = {(row.recommender, row.seen): row for row in evaluation.rows}
    log, bundle = load_prepared(run / "data").log, load_bundle(run / "bundle", trace=False)
    asked = questions(log, "test")
    assert bundle.tokens is not None
    beside = beside_served(bundle.generative, bundle.tokens)
    ways = [*chain.from_iterable(beside.values()), bundle.recommender]
    assert len(ways) >= 6
    for way in ways:
        for keep_seen in (True, False):
            alone = evaluate_recommender(way, asked, num_items=log.num_items, keep_seen=keep_seen, seed=0).row
            row = found[way.name, alone.seen]
            wanted = {name: estimate.value for name, estimate in alone.accuracy.items()}
            assert {name: estimate.value for name, estimate in row.accuracy.items()} == pytest.approx(wanted)
            assert row.coverage == alone.coverage
            assert row.cost is not None
            assert row.cost.milliseconds_a_user > 0
    records = read_records(run)
    needed = ("features", "tokenizer", "catalog", "experts")
    cost = {name: row.cost.train_seconds for (name, _), row in found.items() if row.cost is not None}
    assert cost["recsys: expert facets alone"] == pytest.approx(sum(records[one].seconds for one in needed), abs=0.01)
    # its student learned from the item head and from it
    stages = (*needed, "model", "member", "calibrated", "students", "tokens")
    assert cost["recsys: expert facets_student alone"] == pytest.approx(
        sum(records[one].seconds for one in stages), abs=0.01
    )


def test_tokens_when_all_evidence_searches_then_its_paths_are_served_and_rank_as_the_catalogue(run: Path) -> None:
    choices = TokenRanker.load(run / "tokens").choices
    assert choices.search.ranked == "reached"
    weights = {name: choices.sharpness * weight for name, weight in choices.rank_weights.items()}
    assert choices.search_weights == weights
    found = choices.validation
    assert found["no pruning: all evidence on paths"] >= 0.98 * found["all evidence on the catalogue"]


def test_tokens_when_paths_lose_a_tenth_of_the_catalogues_figure_then_the_catalogue_is_ranked(
    world: Path, run: Path, tmp_path: Path
) -> None:
    train(world, tmp_path, load_recipe("smoke", ("tokens.paths_by=tokens",)), use_ray=False, reuse_from=run)
    choices = TokenRanker.load(tmp_path / "tokens").choices
    assert choices.search_weights == choices.token_weights
    exact = choices.validation["all evidence on the catalogue"]
    best = max(value for name, value in choices.validation.items() if name.endswith(": all evidence on paths"))
    assert best < 0.9 * exact  # so it is in this small world, whose token models hardly learn
    assert choices.search.ranked == "catalogue"


def test_tokens_when_trained_then_codes_are_the_catalogues_and_have_words(run: Path) -> None:
    ranker, own = TokenRanker.load(run / "tokens"), Catalogue.load(run / "catalog")
    np.testing.assert_array_equal(ranker.catalogue.codes_NM, own.codes_NM)
    assert ranker.catalogue.facets == own.facets
    assert set(ranker.choices.token_weights) == {"facets", "facets_student"}
    assert set(ranker.choices.rank_weights) == {"facets", "facets_student", "head"}
    assert sum(ranker.choices.rank_weights.values()) == pytest.approx(1.0)


def test_tokens_when_there_are_two_experts_then_their_codebooks_stand_side_by_side(
    world: Path, run: Path, tmp_path: Path
) -> None:
    train(
        world,
        tmp_path,
        load_recipe("smoke", (TWO, "tokens.new_item_share=0.2", "tokens.new_item_likeness=16")),
        use_ray=False,
        reuse_from=run,
    )
    ranker = TokenRanker.load(tmp_path / "tokens")
    assert ranker.catalogue.layout.num_codebooks == 3 + 4
    assert {book for book, _ in ranker.catalogue.facets} == set(range(7))
    assert list(ranker.sources()) == ["ranking", "facets", "ranking_student"]
    assert list(ranker.tokenizers) == ["ranking", "facets"]
    new_items, absent_N = ranker.choices.new_items, training_log(load_prepared(tmp_path / "data").log).counts_N == 0
    assert new_items is not None
    assert (new_items.expert, new_items.trained) == ("ranking", len(absent_N))
    assert (new_items.share, new_items.likeness) == (0.2, 16.0)
    assert ranker.codebooks("ranking") == ranker.codebooks("ranking_student") == slice(0, 3)
    assert ranker.codebooks("facets") == slice(3, 7)
    assert list(new_items.without_events) == np.flatnonzero(absent_N).tolist()
    as_new_NF = FeatureBuilder.load(tmp_path / "features").as_new().vectors_NF
    as_new_NM = load_tokenizer(tmp_path / "experts" / "ranking" / "tokenizer").encode(as_new_NF, resolve=False)
    np.testing.assert_array_equal(ranker.catalogue.codes_NM[:, :3], as_new_NM)
    figures = json.loads((tmp_path / "tokens" / "choices.json").read_text())["validation"]
    assert figures["tokens mixed"] >= max(figures[f"{name} alone"] for name in ranker.sources())
    assert figures["all evidence"] >= max(figures["tokens mixed"], figures["head alone"])


def test_tokens_when_items_are_new_then_they_are_ranked_by_their_codes_without_training(run: Path) -> None:
    ranker, vectors_NF = TokenRanker.load(run / "tokens"), Features.load(run / "features").vectors_NF
    old, items = ranker.catalogue, len(ranker.catalogue.item_ids)
    grown = ranker.add_items(vectors_NF[[3, 7]], item_ids=["new 3", "new 7"], category_N=old.category_N[[3, 7]])
    assert list(grown.catalogue.item_ids[-2:]) == ["new 3", "new 7"]
    tokenizer = load_tokenizer(run / "tokenizer")
    np.testing.assert_array_equal(grown.catalogue.codes_NM[items:], tokenizer.encode(vectors_NF[[3, 7]], resolve=False))
    for expert in grown.sources().values():
        assert expert(_histories(run)).shape == (20, items + 2)
    slates = grown.tokens_only().exact.recommend(requests_for(_histories(run), n=items + 2, keep_seen=True))
    assert all({items, items + 1} <= set(slate.items.tolist()) for slate in slates)
    assert len(ranker.catalogue.item_ids) == items == ranker.mixture.num_items  # the ranker itself is as it was


def test_tokens_when_the_recipe_has_no_experts_then_there_are_no_token_models(
    world: Path, run: Path, tmp_path: Path
) -> None:
    result = train(world, tmp_path, load_recipe("smoke", ("experts.trained=[]",)), use_ray=False, reuse_from=run)
    assert not any("tokens" in row.recommender for row in result.rows)
    bundle = load_bundle(tmp_path / "bundle")
    assert (bundle.tokens, bundle.recommender) == (None, bundle.generative)
    with pytest.raises(ArtifactError, match=r"choices\.json must exist"):
        TokenRanker.load(tmp_path / "tokens")


def test_tokens_when_an_expert_is_distilled_then_it_stays_as_it_learned_beside_its_student(run: Path) -> None:
    trained = TokenMixture.load(run / "experts" / "facets" / "model").models()[0]
    own, student = TokenRanker.load(run / "tokens").mixture.models()
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], value, rtol=0, atol=0)
    assert (own.config.transition_width, student.config.transition_width) == (0, 8)
    encoded = slice(own.config.width - 1)
    assert (student.code_out[:, encoded] != own.code_out[:, encoded]).any()


def test_tokens_when_no_expert_is_distilled_then_there_is_no_student(world: Path, run: Path, tmp_path: Path) -> None:
    train(world, tmp_path, load_recipe("smoke", ALONE), use_ray=False, reuse_from=run)
    assert list(TokenRanker.load(tmp_path / "tokens").sources()) == ["facets"]


def test_train_when_only_the_search_changes_then_students_are_not_trained_again(
    world: Path, run: Path, tmp_path: Path
) -> None:
    changed = load_recipe("smoke", ("tokens.paths_margin=1.0",))
    train(world, tmp_path, changed, use_ray=False, reuse_from=run)
    before, after = read_records(run), read_records(tmp_path)
    assert after["students"] == before["students"]
    assert after["tokens"].key != before["tokens"].key
    assert TokenRanker.load(tmp_path / "tokens").choices.search.ranked == "reached"  # any loss is small enough


def test_recommend_when_paths_rank_then_the_explanation_is_the_searched_paths_in_words(run: Path) -> None:
    catalogue = Catalogue.load(run / "tokens" / "catalog")
    history = ",".join(str(catalogue.item_ids[item]) for item in _histories(run)[0].items[-4:])
    answer = recommend_one(run, history, n=5, moment=1_700_000_000, by="paths").to_json(explain=True)
    codes_of = dict(zip(map(str, catalogue.item_ids), catalogue.codes_NM, strict=True))
    assert len(answer["items"]) == 5
    for item in answer["items"]:
        assert item["paths"]
        for step in (step for path in item["paths"] for step in path["steps"]):
            assert codes_of[str(item["item_id"])][step["codebook"]] == step["code"]
            assert step["facet"] == catalogue.facets[step["codebook"], step["code"]]


@pytest.mark.parametrize(("by", "reason"), [("chance", "--by must be one of"), ("paths", "needs a run with")])
def test_recommend_when_the_ranking_is_not_there_then_the_error_says_so(
    run: Path, tmp_path: Path, by: str, reason: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "bundle" / "tokens")
    kept = read_manifest(copy / "bundle")
    (copy / "bundle" / FILE).unlink()
    write_manifest(copy / "bundle", kept=kept.kept, validation=kept.validation)
    history = str(Catalogue.load(run / "catalog").item_ids[0])
    with pytest.raises(CallError, match=reason):
        recommend_one(copy, history, n=5, moment=0, by=by)


def test_bundle_when_the_run_has_experts_then_paths_propose_and_all_evidence_ranks(run: Path) -> None:
    bundle, asked = load_bundle(run / "bundle"), _histories(run)
    ranker = TokenRanker.load(run / "bundle" / "tokens")
    proposed, whole = (bundle.recommender.recommend(_requests(asked, whole)) for whole in (False, True))
    ways = ranker.all_evidence(head_of(bundle.generative.scorer), trace=True)
    for slates, way in ((proposed, ways.paths), (whole, ways.exact)):
        for got, wanted in zip(slates, way.recommend(requests_for(asked, n=5)), strict=True):
            np.testing.assert_array_equal(got.items, wanted.items)
    assert bundle.recommender.name == "recsys"
    assert bundle.catalogue.layout.num_codebooks == ranker.catalogue.layout.num_codebooks


def _requests(histories: list[History], whole: bool | None) -> list[Request]:
    return [Request(history=history, n=5, whole_catalogue=whole) for history in histories]


def test_bundle_when_items_are_added_then_every_expert_knows_them_and_paths_reach_them(run: Path) -> None:
    bundle = load_bundle(run / "bundle")
    items = pq.read_table(run / "bundle" / "items.parquet").slice(3, 2)
    place = items.column_names.index("item_id")
    grown = bundle.with_items(items.set_column(place, "item_id", pa.array([90_003, 90_004])))
    size = len(bundle.catalogue.item_ids)
    np.testing.assert_array_equal(grown.catalogue.item_ids[size:], [90_003, 90_004])
    only = np.zeros(size + 2, np.bool_)
    only[[3, size]] = True
    (slate,) = grown.recommender.recommend([Request(history=_histories(run)[0], eligible_N=only, keep_seen=True)])
    assert set(slate.items.tolist()) == {3, size}
    codes_NM = grown.catalogue.codes_NM
    for item, paths in zip(slate.items.tolist(), slate.paths, strict=True):
        assert paths
        assert all(codes_NM[item, step.codebook] == step.code for step in paths[0].steps)


def _searching(ranker: TokenRanker, **search: object) -> TokenRanker:
    """The ranker with other settings of its search."""
    changed = ranker.choices.search.model_copy(update=search)
    return replace(ranker, choices=ranker.choices.model_copy(update={"search": changed}))


def test_pruning_when_it_must_gain_more_than_it_can_then_it_is_off(run: Path, recipe: Recipe) -> None:
    ranker = _searching(TokenRanker.load(run / "tokens"), num_paths=16, ranked="reached")
    head, asked = _head(run), questions(load_prepared(run / "data").log, "validation").sample(30, seed=0)
    off = choose_search(ranker, head, asked, recipe.tokens.model_copy(update={"pruning_margin": 1.0}))
    found = off.choices.search
    assert (found.corp, found.theta, found.pruning) == (False, None, "none")
    kinds = ("no pruning", "CORP", "Reasoning Pruning by the mean", "Reasoning Pruning by two Weibull distributions")
    assert {f"{kind}: tokens by paths" for kind in kinds} <= set(off.choices.validation)
    figures = {kind: off.choices.validation[f"{kind}: all evidence on paths"] for kind in kinds}
    # no difference of two figures up to 1 is below -1: the best is taken
    kept = choose_search(ranker, head, asked, recipe.tokens.model_copy(update={"pruning_margin": -1.0}))
    best = max(figures, key=lambda kind: figures[kind])
    assert kept.choices.search.corp == (best == "CORP")
    assert (kept.choices.search.pruning == "none") == (best in ("no pruning", "CORP"))


@pytest.mark.parametrize("margin", [0.02, 1.0, -9.0])
def test_paths_when_they_lose_too_much_then_are_doubled_until_they_do_not_or_the_catalogue_is_ranked(
    run: Path, recipe: Recipe, margin: float
) -> None:
    ranker = _searching(TokenRanker.load(run / "tokens"), num_paths=1, ranked="reached", codebooks=(2, 3))
    asked = questions(load_prepared(run / "data").log, "validation").sample(30, seed=0)
    update = {"paths_margin": margin, "most_paths": 8, "pruning_margin": 1.0}
    choices = choose_search(ranker, _head(run), asked, recipe.tokens.model_copy(update=update)).choices
    assert choices.search.codebooks == (2, 3)  # what paths are held to stays as it is
    figures = {1: choices.validation["no pruning: all evidence on paths"]}
    figures |= {
        paths: choices.validation[label]
        for paths in (2, 4, 8, 16)
        if (label := f"{paths} paths: all evidence on paths") in choices.validation
    }
    least = (1 - margin) * choices.validation["all evidence on the catalogue"]
    enough = [paths for paths in sorted(figures) if figures[paths] >= least]
    if margin == 1.0:  # any number of paths is enough, so the first is
        assert enough == [1]
    if margin == -9.0:  # ten times the catalogue's figure is never reached
        assert sorted(figures) == [1, 2, 4, 8]
    assert choices.search.ranked == ("reached" if enough else "catalogue")
    assert choices.search.num_paths == (enough[0] if enough else 1)


def test_reliability_when_tokens_are_trained_then_bins_hold_all_paths_and_probabilities_rise(run: Path) -> None:
    saved = json.loads((run / "tokens" / RELIABILITY).read_text())
    predicted = [one["predicted"] for one in saved["bins"]]
    assert predicted == sorted(predicted)
    assert all(0 <= one["observed"] <= 1 for one in saved["bins"])
    # sixteen paths a user at most, in twelve bins
    assert saved["users"] <= sum(one["paths"] for one in saved["bins"]) <= 16 * saved["users"]


def test_reliability_when_what_paths_say_is_what_comes_then_said_and_came_agree(run: Path) -> None:
    ranker, asked = TokenRanker.load(run / "tokens"), questions(load_prepared(run / "data").log, "validation")
    rng = np.random.default_rng(0)
    head = _head(run)
    exact = ranker.all_evidence(head).exact.variant("", num_paths=1)
    histories, targets = [], []
    for _ in range(10):  # the next item is drawn from what the paths are searched by
        for history, log_prob_N in zip(asked.histories, exact.evidence.of(asked.histories)[0], strict=True):
            prob_N = np.exp(log_prob_N.astype(np.float64))
            prob_N[history.items] = 0
            histories.append(history)
            targets.append(int(rng.choice(len(prob_N), p=prob_N / prob_N.sum())))
    drawn = Questions(users_U=np.arange(len(targets)), histories=histories, targets_U=np.array(targets))
    bins = reliability(ranker, head, drawn)
    said, came = (sum(one.paths * getattr(one, name) for one in bins) for name in ("predicted", "observed"))
    assert came == pytest.approx(said, rel=0.1)
    for one in bins:
        # four standard errors of a share among so many paths
        assert abs(one.observed - one.predicted) <= 4 * (one.predicted / one.paths) ** 0.5 + 1e-3


def test_reliability_when_corp_prunes_then_bins_are_of_the_paths_that_it_leaves(run: Path) -> None:
    asked = questions(load_prepared(run / "data").log, "validation").sample(30, seed=0)
    ranker = _searching(TokenRanker.load(run / "tokens"), num_paths=4, corp=True, theta=0.0)
    free = _searching(ranker, corp=False)
    head = _head(run)
    assert reliability(ranker, head, asked) != reliability(free, head, asked)
    # with a threshold that no jump exceeds nothing is taken back
    for kept, one in zip(
        reliability(_searching(ranker, theta=1.0), head, asked), reliability(free, head, asked), strict=True
    ):
        assert asdict(kept) == pytest.approx(asdict(one))


@pytest.mark.parametrize("factor", FACTORS)
def test_codebooks_when_an_expert_weighs_exactly_the_least_share_then_rounding_does_not_leave_it_out(
    factor: float,
) -> None:
    # .05 is a fifth of .25, whatever both are multiplied with
    mixture = TokenMixture({"much": tiny_model(), "less": tiny_model(seed=1)}, [0.25 * factor, 0.05 * factor])
    fifth, more = (TokensConfig(min_codebook_weight=least, paths_by="tokens") for least in (0.2, 0.21))
    assert restrict_codebooks(fifth, mixture, {}).codebooks == ()
    assert restrict_codebooks(more, mixture, {}).codebooks == (0, 1)


def test_codebooks_when_all_evidence_searches_then_those_of_experts_that_rank_count() -> None:
    mixture = TokenMixture({"much": tiny_model(), "less": tiny_model(seed=1)}, [0.9, 0.1])
    config = TokensConfig()
    assert restrict_codebooks(config, mixture, {"much": 0.0, "less": 0.2, "head": 0.8}).codebooks == (2, 3)
    # no expert ranks: those of tokens alone
    assert restrict_codebooks(config, mixture, {"much": 0.0, "less": 0.0, "head": 1.0}).codebooks == (0, 1)


@pytest.mark.parametrize(("books", "noted"), [(1, False), (2, True)])
def test_faithfulness_when_paths_take_all_codebooks_then_nothing_is_noted(books: int, noted: bool) -> None:
    codes_NM = circle_codes()[:, :books]
    mixture = TokenMixture({"only": tiny_model(codes_NM)}, [1.0]).eval()
    search = MarginalSearchConfig(num_paths=5, min_steps=1)  # a path ends after one step, at four items
    choices = TokenChoices(
        token_weights={"only": 1.0}, rank_weights={"only": 1.0}, paths_by="all", search=search, validation={}
    )
    catalogue = Catalogue(
        item_ids=list(range(20)),
        codes_NM=codes_NM,
        category_N=np.zeros(20, np.int64),
        num_categories=1,
        layout=mixture.layout,
        facets={},
    )
    ranker = TokenRanker(mixture=mixture, catalogue=catalogue, choices=choices, tokenizers={})
    asked = Questions(users_U=np.arange(3), histories=histories(), targets_U=np.array([1, 2, 3]))
    found = with_faithfulness(
        ranker, lambda asked: np.zeros((len(asked), 20), np.float32), asked, seed=0
    ).choices.validation
    assert set(found) == ({"fall without the path's facets", "fall without random facets"} if noted else set())


@pytest.mark.parametrize("search_weight", [0.0, 0.5])
def test_bundle_when_experts_are_weighed_beside_another_head_then_those_without_use_stay_without_weight(
    run: Path, search_weight: float
) -> None:
    ranker = TokenRanker.load(run / "tokens")
    weights = {
        "paths_by": "tokens",
        "token_weights": {"facets": search_weight, "facets_student": 1.0},
        "rank_weights": {"facets": 0.0, "facets_student": 1.0},
    }
    ranker = replace(ranker, choices=ranker.choices.model_copy(update=weights))
    asked = questions(load_prepared(run / "data").log, "validation").sample(30, seed=0)
    first = ranker.recommender("", {"facets": 1.0}).variant("", ranked="catalogue")
    targets = [slate.items[0] for slate in first.recommend(requests_for(asked.histories, n=1))]
    # what comes next is what the expert ranks first, so alone it would be perfect
    asked = Questions(users_U=asked.users_U, histories=asked.histories, targets_U=np.array(targets))
    rank = reweighed(ranker, Generator.load(run / "aligned"), asked, steps=4).choices.rank_weights
    assert set(rank) == {"facets", "facets_student", "head"}
    assert (rank["facets"] > 0) == (search_weight > 0)
    assert sum(rank.values()) == pytest.approx(1.0)
    assert all(4 * weight == round(4 * weight) for weight in rank.values())  # multiples of a quarter


@pytest.mark.parametrize(
    "trained",
    [
        '[{name="a"}, {name="a"}]',
        '[{name="a"}, {name="a_student"}]',
        '[{name="head"}]',
        '[{name="A b"}]',
        '[{name="items"}]',
        '[{name="training"}]',
        '[{name="a", as_new=true}]',
        '[{name="a", as_new=true, tokenizer={}}, {name="b", as_new=true, tokenizer={}}]',
    ],
)
def test_recipe_when_experts_lack_names_or_codes_of_their_own_or_two_score_new_items_then_it_is_refused(
    trained: str,
) -> None:
    with pytest.raises(ConfigError, match=r"experts\.trained"):
        load_recipe("smoke", (f"experts.trained={trained}",))


def test_recipe_when_places_are_kept_for_new_items_that_no_expert_scores_then_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tokens\.new_item_share must be 0 .* got 0\.2; set as_new = true"):
        load_recipe("smoke", ("tokens.new_item_share=0.2",))
    with pytest.raises(
        ConfigError, match=r"tokens\.new_item_likeness must be 0 .* got 16\.0; set tokens\.new_item_share"
    ):
        load_recipe("smoke", (TWO, "tokens.new_item_likeness=16"))
    for share in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=r"tokens\.new_item_share"):
            load_recipe("smoke", (TWO, f"tokens.new_item_share={share}"))


def test_experts_when_their_codebooks_differ_in_size_then_none_is_trained(
    world: Path, run: Path, tmp_path: Path
) -> None:
    small = '{name="small", tokenizer={kind="opq", num_codebooks=3, codebook_size=8}}'
    recipe = load_recipe("smoke", (f'experts.trained=[{{name="facets"}}, {small}]',))
    with pytest.raises(ConfigError, match=r"codebooks of one size, got \{'facets': 16, 'small': 8\}; set"):
        train(world, tmp_path, recipe, use_ray=False, reuse_from=run)
    assert not (tmp_path / "experts").exists()
    assert not list((tmp_path / ".work").glob("experts-*/*.pt"))
