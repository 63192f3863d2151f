import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.codes.validity import ValidityIndex
from recsys.contracts import Request
from recsys.core.arrays import FloatArray
from recsys.core.errors import ArtifactError
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.decoder import decode
from recsys.decoding.item_probabilities import Categories
from recsys.model.tokens.mixture import token_log_probs
from recsys.recommender.evidence import Evidence, NewItemEvidence
from recsys.recommender.token_experts import TokenChoices
from recsys.recommender.token_recommender import TokenRecommender
from recsys.recommender.token_scorer import TokenScorer
from tests.support.table_scorer import decoder_config
from tests.support.tiny_tokens import histories, tiny_mixture

CATEGORIES = Categories(category_N=np.arange(20) % 3, count=3)


def _scorer() -> TokenScorer:
    mixture = tiny_mixture()
    return TokenScorer(token_log_probs(mixture), ValidityIndex(mixture.codes_NM(), 5), CATEGORIES)


def _normalised(values: FloatArray) -> FloatArray:
    return np.asarray(np.exp(values) / np.exp(values).sum())


def test_step_scores_when_codes_are_chosen_then_they_are_brute_force_conditionals() -> None:
    scorer = _scorer()
    context = scorer.encode(histories())
    codes_NM, prob_BN = scorer.index.codes_MN.T, np.exp(context)
    np.testing.assert_allclose(prob_BN.sum(axis=1), 1.0, rtol=1e-5)
    free_M = np.full(5, -1)
    paths = [free_M.copy(), free_M.copy(), free_M.copy()]
    paths[1][3] = codes_NM[7, 3]
    paths[2][[0, 4]] = codes_NM[13, [0, 4]]
    scores = scorer.score_steps(context, np.array([0, 1, 2]), np.stack(paths))
    for row, codes_M in enumerate(paths):
        valid_N = np.array([all(c in (-1, own) for c, own in zip(codes_M, item, strict=True)) for item in codes_NM])
        prob_N = np.where(valid_N, prob_BN[row], 0) / prob_BN[row][valid_N].sum()
        for book in range(5):
            wanted_K = np.bincount(codes_NM[:, book], weights=prob_N, minlength=5)
            np.testing.assert_allclose(_normalised(scores.logits_PMK[row, book]), wanted_K, atol=1e-6)
        wanted_Q = np.bincount(CATEGORIES.category_N, weights=prob_N, minlength=3)
        np.testing.assert_allclose(scores.category_PQ[row], wanted_Q, atol=1e-6)


def test_step_scores_when_an_item_is_reached_in_any_order_then_the_product_is_its_probability() -> None:
    scorer = _scorer()
    context, codes_NM = scorer.encode(histories()), scorer.index.codes_MN.T
    for item, order in itertools.product((0, 11, 19), itertools.permutations(range(5), 5)):
        chosen_PM, log_prob = np.full((1, 5), -1), 0.0
        for book in order:
            logits_K = scorer.score_steps(context, np.array([1]), chosen_PM).logits_PMK[0, book]
            log_prob += float(np.log(_normalised(logits_K)[codes_NM[item, book]]))
            chosen_PM[0, book] = codes_NM[item, book]
        assert log_prob == pytest.approx(float(context[1, item]), abs=1e-4)


def test_the_generic_decoder_when_it_asks_the_token_scorer_then_it_finds_the_best_items_too() -> None:
    scorer = _scorer()
    config = decoder_config(num_paths=20, finish_below=1, guidance=0.0, corp=False, item_head=False, codes_per_path=5)
    slates = decode(scorer, scorer.index, histories(), n=3, config=config)
    for slate, log_prob_N in zip(slates, scorer.encode(histories()), strict=True):
        np.testing.assert_array_equal(slate.items, np.argsort(-log_prob_N)[:3])
        np.testing.assert_allclose(slate.scores, log_prob_N[slate.items], atol=1e-4)


def _recommender(config: MarginalSearchConfig, *, other_weight: float = 0.0) -> TokenRecommender:
    mixture = tiny_mixture()
    own = token_log_probs(mixture)
    sources = {"tokens": own, "other": lambda asked: -own(asked)}
    evidence = Evidence(sources, search_weights={"tokens": 1.0}, rank_weights={"tokens": 1.0, "other": other_weight})
    return TokenRecommender("ours", evidence, ValidityIndex(mixture.codes_NM(), 5), CATEGORIES, config)


@pytest.mark.parametrize("ranked", ["reached", "catalogue"])
def test_recommendations_when_seen_items_are_removed_then_slates_hold_unseen_items_in_order(ranked: str) -> None:
    config = MarginalSearchConfig.model_validate({"ranked": ranked, "corp": True, "theta": 0.2})
    requests = [Request(history=history, n=n) for history, n in zip(histories(), (4, 2, 20), strict=True)]
    slates = _recommender(config).recommend(requests)
    assert [len(slate.items) for slate in slates] == [4, 2, 11]
    for request, slate in zip(requests, slates, strict=True):
        assert not set(slate.items.tolist()) & set(request.history.items.tolist())
        assert (np.diff(slate.scores) <= 0).all()
    assert _recommender(config).recommend([]) == []


def test_recommendations_when_other_evidence_weighs_more_then_it_decides_the_order() -> None:
    # tokens weigh 1, their opposite 2: together the opposite of the tokens
    requests = [Request(history=history, n=20, keep_seen=True) for history in histories()]
    config = MarginalSearchConfig(ranked="catalogue")
    plain = _recommender(config).untraced().recommend(requests)
    turned = _recommender(config, other_weight=2.0).untraced().recommend(requests)
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(one.items, other.items[::-1])


def test_recommendations_when_requests_want_different_rankings_then_each_gets_its_own() -> None:
    recommender = _recommender(MarginalSearchConfig(num_paths=1, finish_below=1, ranked="reached"), other_weight=2.0)
    reached, whole = (Request(history=histories()[1], n=3, whole_catalogue=value) for value in (False, True))
    both = recommender.recommend([whole, reached, whole])
    np.testing.assert_array_equal(both[1].items, recommender.recommend([reached])[0].items)
    every = recommender.variant("", ranked="catalogue").recommend([Request(history=histories()[1], n=3)])[0]
    np.testing.assert_array_equal(both[0].items, every.items)
    np.testing.assert_array_equal(both[0].items, both[2].items)
    # the one path leads to the tokens' first item, which all evidence (their opposite) ranks last of all
    assert both[1].items[0] != both[0].items[0]


def _with_kept_places(config: MarginalSearchConfig, share: float) -> TokenRecommender:
    plain = _recommender(config)
    new_items = NewItemEvidence(source="tokens", item_I=np.arange(14, 20), share=share)
    evidence = Evidence(
        plain.evidence.sources,
        search_weights=plain.evidence.search_weights,
        rank_weights={"tokens": 1.0},
        new_items=new_items,
    )
    return TokenRecommender("ours", evidence, plain.index, CATEGORIES, config)


@pytest.mark.parametrize("ranked", ["reached", "catalogue"])
@pytest.mark.parametrize("trace", [True, False])
def test_recommendations_when_places_are_kept_then_requests_of_any_length_have_their_share(
    ranked: str, trace: bool
) -> None:
    config = MarginalSearchConfig.model_validate({"ranked": ranked, "num_paths": 3})
    recommender = _with_kept_places(config, 0.4)
    recommender = recommender if trace else recommender.untraced()
    lengths = (1, 2, 3, 5, 8)
    requests = [Request(history=history, n=n) for history in histories() for n in lengths]
    together = recommender.recommend(requests)
    for request, slate in zip(requests, together, strict=True):
        # the longest history leaves five others and six new items: of eight places .4 * 8 = 3.2, so three are new
        assert len(slate.items) == request.n
        assert (slate.items >= 14).sum() == int(0.4 * request.n)
        (alone,) = recommender.recommend([request])
        np.testing.assert_array_equal(alone.items, slate.items)
        np.testing.assert_allclose(alone.scores, slate.scores, atol=1e-5)
        assert not trace or len(slate.paths) == request.n


@pytest.mark.parametrize("ranked", ["reached", "catalogue"])
def test_recommendations_when_new_items_are_ordered_by_likeness_too_then_kept_places_follow_and_others_stay(
    ranked: str,
) -> None:
    config = MarginalSearchConfig.model_validate({"ranked": ranked, "num_paths": 3})
    plain, alike = _with_kept_places(config, 0.4), _with_kept_places(config, 0.4)
    assert alike.evidence.new_items is not None
    # items 14 to 19: the later the better by so much that log-probabilities decide nothing, for every second history
    turned_I = 1000 * np.arange(6, dtype=np.float32)
    alike.evidence.new_items = replace(
        alike.evidence.new_items, likeness=lambda asked: np.stack([turned_I * (len(one.items) != 2) for one in asked])
    )
    requests = [Request(history=history, n=8) for history in histories()]
    for request, one, other in zip(requests, plain.recommend(requests), alike.recommend(requests), strict=True):
        np.testing.assert_array_equal(one.items[one.items < 14], other.items[other.items < 14])
        expected = one.items[one.items >= 14] if len(request.history.items) == 2 else [19, 18, 17]
        np.testing.assert_array_equal(other.items[other.items >= 14], expected)
        assert (np.diff(other.scores) < 0).all()


def test_recommendations_when_no_place_is_kept_then_new_items_compete_by_score() -> None:
    config = MarginalSearchConfig(ranked="catalogue")
    requests = [Request(history=history, n=9) for history in histories()]
    for kept, plain in zip(
        _with_kept_places(config, 0.0).recommend(requests), _recommender(config).recommend(requests), strict=True
    ):
        np.testing.assert_array_equal(kept.items, plain.items)
        np.testing.assert_array_equal(kept.scores, plain.scores)


def test_recommendations_when_one_history_comes_with_many_masks_then_it_is_encoded_once() -> None:
    calls: list[int] = []
    recommender = _recommender(MarginalSearchConfig())
    source = recommender.evidence.sources["tokens"]
    recommender.evidence.sources["tokens"] = lambda asked: (calls.append(len(asked)), source(asked))[1]  # type: ignore[func-returns-value]
    masks = [np.arange(20) % 3 == rest for rest in range(3)]
    history = histories()[1]
    asked = [Request(history=history, n=3, eligible_N=mask, keep_seen=True) for mask in masks]
    for slate, mask in zip(recommender.recommend(asked), masks, strict=True):
        assert mask[slate.items].all()
    assert calls == [1]


def test_recommendations_when_the_catalogue_is_ranked_without_paths_then_what_only_searches_is_not_asked() -> None:
    mixture = tiny_mixture()
    own, asked = token_log_probs(mixture), []
    sources = {"tokens": lambda histories: (asked.append("tokens"), own(histories))[1], "other": own}  # type: ignore[func-returns-value]
    evidence = Evidence(sources, search_weights={"tokens": 1.0}, rank_weights={"tokens": 0.0, "other": 1.0})
    config, index = MarginalSearchConfig(ranked="catalogue"), ValidityIndex(mixture.codes_NM(), 5)
    traced = TokenRecommender("ours", evidence, index, CATEGORIES, config)
    requests = [Request(history=history, n=5) for history in histories()]
    with_paths, plain = traced.recommend(requests), traced.untraced().recommend(requests)
    assert asked == ["tokens"]
    for one, other in zip(with_paths, plain, strict=True):
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.scores, other.scores)
    reached = traced.untraced().variant("", ranked="reached")
    assert all(len(slate.items) for slate in reached.recommend(requests))
    assert asked == ["tokens", "tokens"]


def test_choices_when_they_are_of_another_version_then_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "choices.json").write_text('{"weights": {}}')
    with pytest.raises(ArtifactError, match=r"choices\.json must hold the settings of this version"):
        TokenChoices.load(tmp_path)
