"""Decoding: against exhaustive search, and its promises about slates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.codes.validity import ValidityIndex
from recsys.core.errors import DecodingError
from recsys.decoding.decoder import decode
from tests.support.table_scorer import StepTable, TableScorer, decode_by, decoder_config, history_of

WIDE = decoder_config(num_paths=64, finish_below=1, item_head=False, order="fixed", codes_per_path=4, guidance=0)


def exhaustive(scorer, codes_NM, history):
    """Return every item's log-probability: codes in the fixed order, equal shares among items with equal codes."""
    context = scorer.encode([history])
    scores = []
    for codes_M in codes_NM:
        partial_1M, left, total = np.full((1, len(codes_M)), -1), codes_NM, 0.0
        for book, code in enumerate(codes_M):
            logits_K = scorer.score_steps(context, np.zeros(1, int), partial_1M).logits_PMK[0, book].astype(float)
            total += logits_K[code] - np.log(np.exp(logits_K[np.unique(left[:, book])]).sum())
            left = left[left[:, book] == code]
            partial_1M[0, book] = code
        scores.append(total - np.log(len(left)))
    return np.array(scores)


@pytest.mark.parametrize("seed", range(8))
def test_decode_when_beam_is_wide_then_equals_exhaustive_search(seed):
    codes_NM = np.random.default_rng(seed).integers(0, 4, (20, 3))
    scorer = TableScorer(items=20, codebooks=3, codes=4, seed=seed)
    histories = [history_of(1), history_of(2, 4)]
    slates = decode_by(scorer, ValidityIndex(codes_NM, 4), histories, n=20, config=WIDE)
    for history, slate in zip(histories, slates, strict=True):
        truth_N = exhaustive(scorer, codes_NM, history)
        assert truth_N[slate.items[0]] == pytest.approx(truth_N.max(), abs=1e-5)
        np.testing.assert_allclose(slate.scores, truth_N[slate.items], atol=1e-4)
        assert np.exp(slate.scores).sum() == pytest.approx(1.0, abs=1e-4)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    items=st.integers(1, 60),
    codebooks=st.integers(1, 4),
    share=st.sampled_from([None, 0.02, 0.5]),
    n=st.integers(1, 30),
    config=st.builds(
        decoder_config,
        num_paths=st.sampled_from([1, 3, 16]),
        finish_below=st.sampled_from([1, 4]),
        min_steps=st.integers(1, 3),
        order=st.sampled_from(["crss", "fixed"]),
        theta=st.sampled_from([None, 0.0, 0.02, 0.1]),
        overdraw=st.integers(1, 3),
        codes_per_path=st.sampled_from([1, 2, 16]),
        item_head=st.booleans(),
        ranked=st.sampled_from(["reached", "catalogue"]),
        guidance=st.sampled_from([0.0, 0.5, 1.0]),
        path_weight=st.sampled_from([0.0, 0.1]),
    ),
)
def test_decode_when_asked_anything_then_slates_keep_their_promises(seed, items, codebooks, share, n, config):
    rng = np.random.default_rng(seed)
    codes_NM = rng.integers(0, 5, (items, codebooks))
    index = ValidityIndex(codes_NM, 5)
    scorer = TableScorer(items=items, codebooks=codebooks, codes=5, seed=seed)
    histories = [history_of(row) for row in range(4)]
    eligible_BN = None if share is None else rng.random((4, items)) < share
    slates = decode_by(scorer, index, histories, n=n, config=config, eligible_BN=eligible_BN)
    every_BN = np.ones((4, items), np.bool_) if eligible_BN is None else eligible_BN
    assert scorer.calls["encode"] <= 1
    assert scorer.calls["score_items"] == (scorer.calls["encode"] if config.reads_items else 0)
    for row, slate in enumerate(slates):
        wanted = min(n, every_BN[row].sum())
        assert len(slate.items) == len(slate.scores) == len(set(slate.items)) <= wanted
        assert len(slate.items) >= (wanted if config.ranking.item_head else min(wanted, 1))
        assert every_BN[row, slate.items].all()
        assert np.isfinite(slate.scores).all()
        assert (np.diff(slate.scores) <= 0).all()
        assert len(slate.pruned) <= 8
        assert all(path.pruned and path.reason for path in slate.pruned)
        for item, paths in zip(slate.items, slate.paths, strict=bool(len(slate.items))):
            assert 1 <= len(paths) <= 4
            for path in paths:
                assert path.log_prob == pytest.approx(sum(np.log(step.confidence) for step in path.steps), abs=1e-3)
                assert all(codes_NM[item, step.codebook] == step.code for step in path.steps)
        # The answer for one history does not depend on the others in the batch.
        only = None if eligible_BN is None else eligible_BN[[row]]
        alone = decode_by(scorer, index, [histories[row]], n=n, config=config, eligible_BN=only, trace=False)[0]
        np.testing.assert_array_equal(alone.items, slate.items)
        np.testing.assert_allclose(alone.scores, slate.scores, atol=1e-5)
        assert alone.paths == ()


def test_decode_when_paths_have_no_weight_and_nobody_asks_for_them_then_none_is_searched():
    codes_NM = np.random.default_rng(0).integers(0, 4, (40, 4))
    scorer = TableScorer(items=40, codebooks=4, codes=4)
    config = decoder_config(path_weight=0.0)
    decode_by(scorer, ValidityIndex(codes_NM, 4), [history_of(1)], n=5, config=config, trace=False)
    assert not scorer.seen
    decode_by(scorer, ValidityIndex(codes_NM, 4), [history_of(1)], n=5, config=config)
    assert scorer.seen


def test_decode_when_paths_are_finished_then_they_are_not_scored_again():
    codes_NM = np.random.default_rng(0).integers(0, 4, (40, 4))
    scorer = TableScorer(items=40, codebooks=4, codes=4)
    decode_by(scorer, ValidityIndex(codes_NM, 4), [history_of(1)], n=5, config=decoder_config(finish_below=3))
    for codes_PM in scorer.seen:
        for codes_M in codes_PM:
            left = (codes_NM[:, codes_M >= 0] == codes_M[codes_M >= 0]).all(axis=1).sum()
            assert left > (3 if (codes_M >= 0).sum() >= 2 else 1)


def test_decode_when_too_few_items_are_reached_then_the_item_head_fills_up():
    # One path that ends in one item; the other four of five wanted items come from the item head, in its order.
    codes_NM = np.stack([np.arange(6), np.arange(6)], axis=1)
    scorer = TableScorer(items=6, codebooks=2, codes=6)
    config = decoder_config(num_paths=1, ranked="reached", guidance=0)
    slate = decode_by(scorer, ValidityIndex(codes_NM, 6), [history_of(1)], n=5, config=config)[0]
    head_N = scorer.head_UN[1]
    rest = [item for item in np.argsort(-head_N) if item != slate.items[0]]
    assert slate.items[1:].tolist() == rest[:4]
    assert slate.scores[1] == pytest.approx(slate.scores[0] - 1.0)
    assert slate.scores[2] == pytest.approx(slate.scores[0] - 1.0 + head_N[rest[1]] - head_N[rest[0]], abs=1e-5)
    # Each of the four names itself by its own code, in the codebook where the model believes it more.
    logits = scorer.score_steps(scorer.encode([history_of(1)]), np.zeros(1, int), np.full((1, 2), -1)).logits_PMK[0]
    log_prob_MK = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for item, paths in zip(slate.items[1:].tolist(), slate.paths[1:], strict=True):
        (path,) = paths
        assert [(step.codebook, step.code) for step in path.steps] == [(int(log_prob_MK[:, item].argmax()), item)]
        assert path.log_prob == pytest.approx(log_prob_MK[:, item].max(), abs=1e-4)


@pytest.mark.parametrize("guidance", [0.0, 0.8])
def test_decode_when_no_item_scorer_ranks_then_only_what_paths_reach_is_in_the_slate(guidance):
    # One path that ends in one item: by paths alone the slate is that item, whatever a head says of the others.
    codes_NM = np.stack([np.arange(6), np.arange(6)], axis=1)
    scorer = TableScorer(items=6, codebooks=2, codes=6)
    config = decoder_config(num_paths=1, item_head=False, guidance=guidance)
    (slate,) = decode_by(scorer, ValidityIndex(codes_NM, 6), [history_of(1)], n=5, config=config)
    assert len(slate.items) == len(slate.paths) == 1
    assert scorer.calls["score_items"] == (guidance > 0)  # the steps hear it, the ranking never


def test_decode_when_the_scorer_cannot_score_items_then_paths_alone_rank_and_all_else_is_refused():
    codes_NM = np.random.default_rng(0).integers(0, 4, (20, 3))
    scorer, index = StepTable(codebooks=3, codes=4), ValidityIndex(codes_NM, 4)
    (slate,) = decode(scorer, index, [history_of(1)], n=20, config=WIDE)
    truth_N = exhaustive(scorer, codes_NM, history_of(1))
    assert len(slate.items) == 20
    np.testing.assert_allclose(slate.scores, truth_N[slate.items], atol=1e-4)
    for config in (decoder_config(guidance=0), WIDE.with_search(guidance=0.1)):
        with pytest.raises(DecodingError, match=r"needs an item scorer, got none.*search\.guidance to 0"):
            decode(scorer, index, [history_of(1)], n=20, config=config)


def test_decode_when_the_catalogue_is_ranked_then_equals_head_plus_bonus_over_all_items():
    codes_NM = np.random.default_rng(3).integers(0, 4, (50, 3))
    scorer = TableScorer(items=50, codebooks=3, codes=4)
    index, ask = ValidityIndex(codes_NM, 4), [history_of(1), history_of(2, 4)]
    settings_ = {"num_paths": 4, "path_weight": 0.5}
    eligible_BN = np.random.default_rng(4).random((2, 50)) < 0.8
    whole = decode_by(scorer, index, ask, n=10, config=decoder_config(**settings_), eligible_BN=eligible_BN)
    proposed = decoder_config(**settings_, item_head=True, ranked="reached")
    reached = decode_by(scorer, index, ask, n=50, config=proposed, eligible_BN=eligible_BN)
    plain = decode_by(scorer, index, ask, n=50, config=proposed.with_ranking(path_weight=0.0), eligible_BN=eligible_BN)
    for row, (got, wide, head) in enumerate(zip(whole, reached, plain, strict=True)):
        head_N = scorer.head_UN[scorer.encode([ask[row]])[0]]
        bonus_N = np.zeros(50)
        known = dict(zip(head.items.tolist(), head.scores.tolist(), strict=True))
        for item, score in zip(wide.items.tolist(), wide.scores.tolist(), strict=True):
            if known[item] == pytest.approx(head_N[item], abs=1e-5):  # reached: filled ones score below all reached
                bonus_N[item] = score - head_N[item]
        score_N = np.where(eligible_BN[row], head_N + np.maximum(bonus_N, 0), -np.inf)
        assert got.items.tolist() == np.lexsort((np.arange(50), -score_N))[:10].tolist()


@pytest.mark.parametrize("order", ["crss", "fixed"])
def test_decode_when_fully_guided_then_every_order_of_codes_gives_an_item_the_probability_of_the_head(order):
    # p(first code) p(second | first) ... telescopes to the probability of what is left, and an item's share of that
    # to its own
    codes_NM = np.random.default_rng(5).integers(0, 4, (30, 3))
    scorer = TableScorer(items=30, codebooks=3, codes=4)
    config = WIDE.with_search(guidance=1.0, order=order)
    slate = decode_by(scorer, ValidityIndex(codes_NM, 4), [history_of(1)], n=30, config=config)[0]
    head_N = scorer.head_UN[1]
    for paths, item, score in zip(slate.paths, slate.items, slate.scores, strict=True):
        alike = (codes_NM == codes_NM[item]).all(axis=1)  # without the item head, items of equal codes share alike
        assert score == pytest.approx(np.log(np.exp(head_N[alike]).mean()), abs=1e-3)
        assert paths[0].log_prob == pytest.approx(np.log(np.exp(head_N[alike]).sum()), abs=1e-3)


def test_decode_when_a_row_has_no_eligible_item_then_its_slate_is_empty():
    eligible_BN = np.array([[False, False], [False, True]])
    scorer = TableScorer(items=2, codebooks=1, codes=2)
    slates = decode_by(
        scorer,
        ValidityIndex(np.array([[0], [1]]), 2),
        [history_of(0), history_of(1)],
        n=3,
        config=decoder_config(),
        eligible_BN=eligible_BN,
    )
    assert [slate.items.tolist() for slate in slates] == [[], [1]]


@pytest.mark.parametrize("order", ["crss", "fixed"])
@pytest.mark.parametrize("table", ["user_UMK", "head_UN", "user_UQ"])
def test_decode_when_the_scorer_says_nan_then_refuses(order, table):
    scorer = TableScorer(items=30, codebooks=3, codes=3)
    getattr(scorer, table)[:] = np.nan
    codes_NM = np.random.default_rng(0).integers(0, 3, (30, 3))
    with pytest.raises(DecodingError, match="NaN"):
        decode_by(
            scorer,
            ValidityIndex(codes_NM, 3),
            [history_of(1)],
            n=3,
            config=decoder_config(order=order, theta=0.1),
        )
