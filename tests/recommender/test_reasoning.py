"""The reasoning recommender answers each request by itself, whoever asks beside it."""

import numpy as np
import pytest

from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.contracts import History, Request, Steering, empty_history
from recsys.core.errors import CallError
from recsys.decoding.config import DecoderConfig
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from tests.support.cycle_world import tiny_generator
from tests.support.table_scorer import decoder_config

ITEMS = 20


def small_recommender(config: DecoderConfig) -> ReasoningRecommender[GeneratorScorer]:
    generator = tiny_generator(ITEMS)
    catalogue = Catalogue(
        item_ids=list(range(ITEMS)),
        codes_NM=generator.codes_NM.numpy(),
        category_N=np.arange(ITEMS) % 3,
        num_categories=3,
        layout=CodeLayout(num_codebooks=2, codebook_size=5),
        facets={},
    )
    return ReasoningRecommender(GeneratorScorer(generator), catalogue, config)


@pytest.mark.parametrize("config", [DecoderConfig(), decoder_config(path_weight=0.0, ranked="reached", num_paths=2)])
def test_recommend_when_requests_differ_then_each_gets_what_it_gets_alone(config: DecoderConfig) -> None:
    recommender = small_recommender(config)
    history = History(items=np.array([3, 4, 5]), timestamps=np.array([0, 60, 120]))
    odd_N = np.arange(ITEMS) % 2 == 1
    requests = [
        Request(history=history, n=2),
        Request(history=history, n=9, keep_seen=True),
        Request(history=empty_history(), n=5, eligible_N=odd_N),
        Request(history=history, n=ITEMS, eligible_N=odd_N),
    ]
    slates = recommender.recommend(requests)
    # 20 items; odd ones are 10, less the seen 3 and 5
    assert [len(slate.items) for slate in slates] == [2, 9, 5, 8]
    for request, slate in zip(requests, slates, strict=True):
        (alone,) = recommender.recommend([request])
        assert slate.items.tolist() == alone.items.tolist()
        assert slate.scores == pytest.approx(alone.scores, abs=1e-5)
        assert len(slate.paths) == len(slate.items)


def test_recommend_when_nobody_asks_then_nothing_is_answered() -> None:
    assert small_recommender(DecoderConfig()).recommend([]) == []


def test_recommend_when_steered_then_says_that_it_cannot() -> None:
    steered = Request(history=empty_history(), steering=Steering(prefer=frozenset({(0, 1)})))
    with pytest.raises(CallError, match="recsys cannot steer"):
        small_recommender(DecoderConfig()).recommend([steered])
