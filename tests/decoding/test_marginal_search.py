"""Path search over item distributions, against brute force over small catalogues."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.divergence import js_divergence
from recsys.core.errors import DecodingError
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.item_probabilities import Categories, item_probabilities, paths_of
from recsys.decoding.marginal_decoder import decode_by_marginals
from recsys.decoding.marginal_search import MarginalSearch, first_least


def _world(seed: int, *, items: int = 30, books: int = 3, codes: int = 4, rows: int = 3) -> tuple[IntArray, FloatArray]:
    rng = np.random.default_rng(seed)
    log_prob_BN = rng.normal(0, 2, (rows, items))
    log_prob_BN -= np.log(np.exp(log_prob_BN).sum(axis=1, keepdims=True))
    return rng.integers(0, codes, (items, books)), log_prob_BN.astype(np.float32)


def _probability(codes_NM: IntArray, prob_N: FloatArray, chosen: dict[int, int]) -> float:
    """The readable slow way: the probability of all items that have the chosen codes."""
    return sum(float(prob_N[i]) for i, row in enumerate(codes_NM) if all(row[b] == c for b, c in chosen.items()))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), paths=st.integers(1, 40), barred=st.integers(0, 20))
def test_paths_when_searched_then_each_ones_steps_are_the_exact_conditionals_and_its_items_are_all_that_remain(
    seed: int, paths: int, barred: int
) -> None:
    codes_NM, log_prob_BN = _world(seed)
    eligible_BN = np.ones(log_prob_BN.shape, np.bool_)
    eligible_BN[:, :barred] = False
    prob_BN = item_probabilities(log_prob_BN, eligible_BN)
    search = MarginalSearch(ValidityIndex(codes_NM, 4), prob_BN, MarginalSearchConfig(num_paths=paths, finish_below=1))
    beam = search.run(np.arange(3), eligible_BN)
    assert np.bincount(beam.row_P, minlength=3).max() <= paths
    for at in range(len(beam)):
        prob_N, path, chosen = prob_BN[beam.row_P[at]], beam.path(at), {}
        before = 1.0
        for step in path.steps:
            chosen[step.codebook] = step.code
            after = _probability(codes_NM, prob_N, chosen)
            assert step.confidence == pytest.approx(after / before, rel=1e-4)
            before = after
        assert np.exp(path.log_prob) == pytest.approx(before, rel=1e-6)
        left = beam.candidates.take(np.array([at])).items_C.tolist()
        assert left == [
            item for item in range(barred, 30) if all(codes_NM[item, book] == code for book, code in chosen.items())
        ]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_an_items_probability_when_its_codes_are_its_own_then_it_is_the_same_in_every_order(seed: int) -> None:
    codes_NM, log_prob_BN = _world(seed, items=8, books=3, codes=8, rows=1)
    codes_NM[:, 0] = np.arange(8)  # no two items share all codes
    prob_N = item_probabilities(log_prob_BN, None)[0]
    for item, order in itertools.product(range(8), itertools.permutations(range(3))):
        chosen: dict[int, int] = {}
        product, before = 1.0, 1.0
        for book in order:
            chosen[book] = int(codes_NM[item, book])
            after = _probability(codes_NM, prob_N, chosen)
            product, before = product * after / before, after
        assert product == pytest.approx(float(prob_N[item]), rel=1e-9)


def test_search_when_paths_are_many_then_it_finds_the_best_items_of_the_whole_catalogue() -> None:
    codes_NM, log_prob_BN = _world(1, items=200, books=4, codes=8, rows=20)
    index = ValidityIndex(codes_NM, 8)
    exact = decode_by_marginals(
        log_prob_BN, log_prob_BN, index, n=5, config=MarginalSearchConfig(ranked="catalogue"), trace=False
    )
    reached = decode_by_marginals(
        log_prob_BN, log_prob_BN, index, n=5, config=MarginalSearchConfig(num_paths=200, finish_below=1)
    )
    for one, other, log_prob_N in zip(exact, reached, log_prob_BN, strict=True):
        np.testing.assert_array_equal(one.items, np.argsort(-log_prob_N, kind="stable")[:5])
        np.testing.assert_array_equal(other.items, one.items)
        assert all(paths for paths in other.paths)


def test_the_first_codebook_when_one_holds_more_in_its_best_codes_then_it_is_chosen() -> None:
    # two paths: codebook 0 has .4 + .3 in its best two codes, codebook 1 has .6 + .3
    codes_NM = np.array([[0, 0], [1, 0], [2, 1], [3, 2]])
    log_prob_BN = np.log(np.array([[0.4, 0.2, 0.3, 0.1]], np.float32))
    search = MarginalSearch(
        ValidityIndex(codes_NM, 4), item_probabilities(log_prob_BN, None), MarginalSearchConfig(num_paths=2)
    )
    beam = search.run(np.arange(1), None)
    assert {beam.path(at).steps[0].codebook for at in range(len(beam))} == {1}


def test_a_later_codebook_when_it_isolates_the_best_item_then_it_is_chosen() -> None:
    # after code 0 of codebook 0 items 0 (.5), 1 (.2), 2 (.1) remain: item 0 shares its code of codebook 1 with item 1,
    # that of codebook 2 with none
    codes_NM = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 2], [2, 3, 3], [3, 0, 1]])
    log_prob_BN = np.log(np.array([[0.5, 0.2, 0.1, 0.1, 0.05, 0.05]], np.float32))
    config = MarginalSearchConfig(num_paths=4, finish_below=1)
    search = MarginalSearch(ValidityIndex(codes_NM, 4), item_probabilities(log_prob_BN, None), config)
    beam = search.run(np.arange(1), None)
    steps = {beam.path(at).steps for at in range(len(beam))}
    found = next(path for path in steps if [step.code for step in path][:2] == [0, 0] and path[0].codebook == 0)
    assert [step.codebook for step in found] == [0, 2]


def test_search_when_some_codebooks_are_closed_then_paths_take_the_others_and_stop_when_these_are_taken() -> None:
    codes_NM, log_prob_BN = _world(3, items=40, books=4, codes=3)
    prob_BN, index = item_probabilities(log_prob_BN, None), ValidityIndex(codes_NM, 3)
    config = MarginalSearchConfig(num_paths=20, finish_below=1, codebooks=(1, 3))
    beam = MarginalSearch(index, prob_BN, config).run(np.arange(3), None)
    taken = {tuple(sorted(step.codebook for step in beam.path(at).steps)) for at in range(len(beam))}
    assert taken <= {(1,), (3,), (1, 3)}
    # nine pairs of codes share 40 items, so some pair still has several
    assert beam.candidates.sizes_P.max() > 1
    for at in range(len(beam)):
        chosen = {step.codebook: step.code for step in beam.path(at).steps}
        assert np.exp(beam.log_prob_P[at]) == pytest.approx(_probability(codes_NM, prob_BN[beam.row_P[at]], chosen))


def test_search_when_a_codebook_is_named_that_does_not_exist_then_the_error_says_so() -> None:
    codes_NM, log_prob_BN = _world(3)
    with pytest.raises(DecodingError, match=r"must be below 3, got \[3\]"):
        MarginalSearch(
            ValidityIndex(codes_NM, 4), item_probabilities(log_prob_BN, None), MarginalSearchConfig(codebooks=(0, 3))
        )


@pytest.mark.parametrize(("enough", "paths"), [(0.5, 1), (0.61, 2), (0.95, 3), (1.0, 4)])
def test_search_when_some_paths_hold_enough_then_no_further_one_is_followed(enough: float, paths: int) -> None:
    # one codebook with four items of probability .6, .3, .06 and .04: .6, .9, .96 and 1 are reached with 1 to 4 paths
    log_prob_BN = np.log(np.array([[0.3, 0.6, 0.04, 0.06]], np.float32))
    config = MarginalSearchConfig(num_paths=9, finish_below=1, enough=enough)
    search = MarginalSearch(ValidityIndex(np.arange(4)[:, None], 4), item_probabilities(log_prob_BN, None), config)
    beam = search.run(np.arange(1), None)
    assert beam.candidates.items_C[np.argsort(-beam.log_prob_P)].tolist() == [1, 0, 3, 2][:paths]


def test_search_when_rows_differ_in_how_clear_they_are_then_the_clear_one_takes_fewer_paths() -> None:
    codes_NM, log_prob_BN = _world(5, items=200, books=4, codes=8, rows=2)
    log_prob_BN[0] *= 4  # much of the probability on few items
    log_prob_BN -= np.log(np.exp(log_prob_BN).sum(axis=1, keepdims=True))
    config = MarginalSearchConfig(num_paths=64, finish_below=1, enough=0.6)
    search = MarginalSearch(ValidityIndex(codes_NM, 8), item_probabilities(log_prob_BN, None), config)
    paths_B = np.bincount(search.run(np.arange(2), None).row_P, minlength=2)
    assert 0 < paths_B[0] < paths_B[1] <= 64


def _jumping(theta: float | None, *, corp: bool = True) -> MarginalSearch:
    """Sixteen items in two codebooks of four codes; the category is the second code's."""
    codes_NM = np.stack([np.arange(16) // 4, np.arange(16) % 4], axis=1)
    log_prob_BN = np.random.default_rng(3).normal(0, 1.5, (1, 16)).astype(np.float32)
    categories = Categories(category_N=np.arange(16) % 4, count=4)
    config = MarginalSearchConfig(num_paths=3, finish_below=1, corp=corp, theta=theta)
    return MarginalSearch(
        ValidityIndex(codes_NM, 4), item_probabilities(log_prob_BN, None), config, categories=categories
    )


def test_jumps_when_paths_are_searched_then_they_are_those_of_exact_categories_at_every_step() -> None:
    search = _jumping(None)
    beam = search.run(np.arange(1), None)
    prob_N = search.prob_BN[0]
    for at in range(len(beam)):
        kept_N, jumps = np.ones(16, np.bool_), []
        before_Q = np.bincount(np.arange(16) % 4, weights=prob_N, minlength=4)
        for step in beam.path(at).steps:
            kept_N &= search.codes_NM[:, step.codebook] == step.code
            after_Q = np.bincount(np.arange(16)[kept_N] % 4, weights=prob_N[kept_N], minlength=4)
            after_Q = after_Q / after_Q.sum()
            jumps.append(float(js_divergence(before_Q[None].astype(np.float32), after_Q[None].astype(np.float32))[0]))
            before_Q = after_Q
        assert len(jumps) == 2
        for step, jump in enumerate(jumps):
            assert np.isclose(search.jumps[step], jump, atol=1e-5).any()


def test_corp_when_finished_paths_jump_then_they_are_cut_as_well_and_never_fewer_paths_live() -> None:
    free = _jumping(None)
    wanted = len(free.run(np.arange(1), None))
    strict = _jumping(0.0)  # every transition jumps by more than nothing, so the least inconsistent live on
    assert len(strict.run(np.arange(1), None)) == wanted
    assert {cut.step for cut in strict.cuts} == {0, 1}
    assert all((cut.jump_P > 0).all() for cut in strict.cuts)


def test_corp_when_a_path_jumps_then_its_parents_next_token_is_tried_with_the_jumping_one_barred() -> None:
    free = _jumping(None)
    free.run(np.arange(1), None)
    theta = float(np.median(free.jumps[-1]))
    search = _jumping(theta)
    beam = search.run(np.arange(1), None)
    cut = {tuple(row) for part in search.cuts for row in part.beam.codes_PM.tolist()}
    assert cut
    assert not cut & {tuple(row) for row in beam.codes_PM.tolist()}


def test_corp_when_switched_off_then_nothing_is_cut() -> None:
    search = _jumping(0.0, corp=False)
    search.run(np.arange(1), None)
    assert search.cuts == []


def test_slates_when_some_rows_have_few_eligible_items_then_each_is_as_long_as_it_can_be() -> None:
    codes_NM, log_prob_BN = _world(2)
    eligible_BN = np.zeros((3, 30), np.bool_)
    eligible_BN[1, [4, 9]] = True
    eligible_BN[2] = True
    slates = decode_by_marginals(
        log_prob_BN,
        log_prob_BN,
        ValidityIndex(codes_NM, 4),
        n=5,
        config=MarginalSearchConfig(num_paths=2),
        eligible_BN=eligible_BN,
    )
    assert [len(slate.items) for slate in slates] == [0, 2, 5]
    assert set(slates[1].items.tolist()) == {4, 9}


@pytest.mark.parametrize("ranked", ["reached", "catalogue"])
def test_slates_when_another_score_ranks_then_its_order_holds_and_paths_are_the_searched_ones(ranked: str) -> None:
    codes_NM, log_prob_BN = _world(4)
    rank_BN = -log_prob_BN
    config = MarginalSearchConfig.model_validate({"num_paths": 30, "finish_below": 1, "ranked": ranked})
    for slate in decode_by_marginals(log_prob_BN, rank_BN, ValidityIndex(codes_NM, 4), n=6, config=config):
        assert (np.diff(slate.scores) <= 0).all()
        for item, paths in zip(slate.items.tolist(), slate.paths, strict=True):
            for path in paths:
                assert all(codes_NM[item, step.codebook] == step.code for step in path.steps)


def test_item_probabilities_when_a_model_has_diverged_then_the_error_says_so() -> None:
    with pytest.raises(DecodingError, match="must be numbers, got NaN"):
        item_probabilities(np.array([[np.nan, 0.0]], np.float32), None)


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("ranked", ["reached", "catalogue"])
def test_slates_when_a_score_that_ranks_is_no_number_then_the_error_says_so(ranked: str, trace: bool) -> None:
    # one NaN, which ranking took out of the catalogue without a word, or put behind all that paths reach
    codes_NM, log_prob_BN = _world(4)
    rank_BN, config = log_prob_BN.copy(), MarginalSearchConfig.model_validate({"ranked": ranked})
    rank_BN[1, 7] = np.nan
    with pytest.raises(DecodingError, match="scores of items must be numbers, got NaN"):
        decode_by_marginals(log_prob_BN, rank_BN, ValidityIndex(codes_NM, 4), n=6, config=config, trace=trace)


@pytest.mark.parametrize("ranked", ["reached", "catalogue"])
def test_slates_when_items_have_the_probability_0_then_they_are_ranked_last_and_none_is_lost(ranked: str) -> None:
    codes_NM, log_prob_BN = _world(4, items=5)
    log_prob_BN[0], log_prob_BN[1, :3] = -np.inf, -np.inf
    config = MarginalSearchConfig.model_validate({"ranked": ranked})
    slates = decode_by_marginals(log_prob_BN, log_prob_BN, ValidityIndex(codes_NM, 4), n=9, config=config)
    assert [sorted(slate.items.tolist()) for slate in slates] == [list(range(5))] * 3
    assert set(slates[1].items[:2].tolist()) == {3, 4}


@pytest.fixture
def nothing_eligible() -> BoolArray:
    return np.zeros((1, 3), np.bool_)


def test_item_probabilities_when_nothing_is_eligible_then_they_are_zero(nothing_eligible: BoolArray) -> None:
    assert item_probabilities(np.zeros((1, 3), np.float32), nothing_eligible).sum() == 0


def test_paths_of_when_distributions_differ_then_the_number_is_the_perplexity_over_the_setting() -> None:
    # perplexities 8, 1 and 4; two items a path make 4, 1 and 2 paths, of which at least 2 and at most 3 are wanted
    prob_BN = np.zeros((3, 8))
    prob_BN[0], prob_BN[1, 0], prob_BN[2, :4] = 1 / 8, 1, 1 / 4
    config = MarginalSearchConfig(num_paths=3, fewest_paths=2, perplexity_per_path=2)
    assert paths_of(prob_BN, config).tolist() == [3, 2, 2]
    assert paths_of(prob_BN, MarginalSearchConfig(num_paths=5)).tolist() == [5, 5, 5]


def test_search_when_paths_follow_perplexity_then_no_row_has_more_than_its_own_number() -> None:
    codes_NM, log_prob_BN = _world(4, items=60, rows=6)
    prob_BN = item_probabilities(log_prob_BN * np.linspace(0.2, 3, 6)[:, None].astype(np.float32), None)
    config = MarginalSearchConfig(num_paths=12, fewest_paths=2, perplexity_per_path=3.0, finish_below=1)
    beam = MarginalSearch(ValidityIndex(codes_NM, 4), prob_BN, config).run(np.arange(6), None)
    counts_B, wanted_B = np.bincount(beam.row_P, minlength=6), paths_of(prob_BN, config)
    assert (counts_B <= wanted_B).all()
    assert len(set(wanted_B.tolist())) > 1


@pytest.mark.parametrize("rule", ["mean", "weibull"])
def test_search_when_unlikely_paths_are_taken_out_then_they_are_told_with_the_reason(rule: str) -> None:
    codes_NM, log_prob_BN = _world(5, items=60, rows=4)
    config = MarginalSearchConfig.model_validate({"num_paths": 12, "finish_below": 1, "pruning": rule})
    index = ValidityIndex(codes_NM, 4)
    slates = decode_by_marginals(log_prob_BN, log_prob_BN, index, n=3, config=config)
    free = MarginalSearch(index, item_probabilities(log_prob_BN, None), config.model_copy(update={"pruning": "none"}))
    cut = MarginalSearch(index, item_probabilities(log_prob_BN, None), config)
    every, kept = (search.run(np.arange(4), None) for search in (free, cut))
    assert len(kept) < len(every)
    assert sum(len(slate.pruned) for slate in slates) > 0
    assert all(path.pruned and rule in path.reason for slate in slates for path in slate.pruned)


def test_first_least_when_codebooks_differ_by_rounding_then_the_first_of_them_is_taken() -> None:
    value_PM = np.array([[0.5, 0.3 + 1e-9, 0.3], [np.inf, 0.2, 0.1], [-1.0, -1.0 - 1e-9, -0.5]])
    assert first_least(value_PM).tolist() == [1, 2, 0]


def test_search_when_probabilities_change_by_rounding_then_paths_take_the_same_codebooks() -> None:
    # as many paths as codes: every first codebook holds all probability
    codes_NM, log_prob_BN = _world(7, items=60, books=4, rows=8)
    index, config = ValidityIndex(codes_NM, 4), MarginalSearchConfig(num_paths=6, finish_below=1)
    noise_BN = np.random.default_rng(0).normal(0, 1e-7, log_prob_BN.shape)
    steps = []
    for values_BN in (log_prob_BN, (log_prob_BN + noise_BN).astype(np.float32)):
        beam = MarginalSearch(index, item_probabilities(values_BN, None), config).run(np.arange(8), None)
        steps.append([[step.codebook for step in beam.path(at).steps] for at in range(len(beam))])
    assert steps[0] == steps[1]
