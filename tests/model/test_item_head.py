"""What the item head leaves out when it costs time and changes nothing, and refuses when it would end the process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import History
from recsys.core.errors import ArtifactError
from recsys.model.cooccurrence_prior import CooccurrencePrior, likeness_table
from recsys.model.generator import Generator
from recsys.recommender.scorer import GeneratorScorer
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig
from tests.support.cycle_world import cycle_log, tiny_generator


@pytest.mark.parametrize(("share", "there"), [(0.0, False), (0.4, True)])
def test_load_when_the_member_has_no_share_then_leaves_it_out_and_scores_alike(
    tmp_path: Path, share: float, there: bool
) -> None:
    generator = tiny_generator()
    config = IdTransformerConfig(max_length=generator.shape.max_history)
    torch.manual_seed(3)
    member = IdTransformer(config, generator.config.num_items)
    generator.set_members([(member, config)], torch.tensor([], dtype=torch.long))
    generator.config.member_share = share
    generator.eval().save(tmp_path)
    loaded = Generator.load(tmp_path)
    assert (loaded.head.members is not None) == there
    history = History(items=np.array([1, 5, 2]), timestamps=np.array([10, 20, 30]))
    scores = []
    for one in (generator, loaded):
        scorer = GeneratorScorer(one)
        scores.append(scorer.score_items(scorer.encode([history])))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


@pytest.mark.parametrize(
    ("table", "place", "value"),
    [("prior_items_0", 2, 1 << 30), ("prior_items_1", 0, -1), ("prior_starts_0", 3, 1 << 30), ("prior_starts_2", 0, 1)],
)
def test_prior_when_an_index_is_damaged_then_is_refused_before_it_is_used(table: str, place: int, value: int) -> None:
    generator = tiny_generator(prior=CooccurrencePrior.of(cycle_log()))
    generator.head.prior()
    getattr(generator.head, table)[place] = value
    with pytest.raises(ArtifactError, match="damaged"):
        generator.head.prior()


@given(
    histories=st.lists(st.lists(st.integers(0, 19), max_size=30), min_size=1, max_size=3),
    kept=st.sampled_from([1, 3, 4]),
)
def test_scores_of_when_asked_for_one_history_then_are_the_sparse_scores_to_the_bit(
    histories: list[list[int]], kept: int
) -> None:
    likeness = likeness_table(np.random.default_rng(5).standard_normal((20, 6)).astype(np.float32))
    prior = CooccurrencePrior(tables=CooccurrencePrior.of(cycle_log(), likeness).tables[:kept])
    asked = [np.array(items, np.int64) for items in histories]
    for row, items in enumerate(asked):
        for sparse, (voted_X, score_X) in zip(prior.scores(asked), prior.scores_of(items), strict=True):
            dense_N = np.zeros(20, np.float32)
            dense_N[voted_X] = score_X
            assert np.array_equal(dense_N, sparse.toarray()[row])
