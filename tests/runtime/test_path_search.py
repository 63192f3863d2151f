"""The compiled search finds the paths of the readable one, with its probabilities, whatever is barred or pruned."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import IntArray
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.evidence import UnlikelyPaths
from recsys.decoding.item_probabilities import Categories, item_probabilities
from recsys.decoding.marginal_search import MarginalSearch
from recsys.decoding.paths import Beam
from recsys.runtime import first_codebook
from recsys.runtime.path_kernels import CodeTable
from recsys.runtime.path_search import CompiledSearch, compiled_searcher


def _found(beam: Beam) -> tuple[dict[tuple[int, ...], tuple[tuple[int, ...], float]], list[list[int]]]:
    """Return each path's codes with its row, with the order of its steps and its log-probability; and its items."""
    paths = {}
    items = []
    for at in range(len(beam)):
        key = (int(beam.row_P[at]), *beam.codes_PM[at].tolist())
        assert key not in paths
        paths[key] = (tuple(beam.order_PM[at].tolist()), float(beam.log_prob_P[at]))
        items.append([int(beam.row_P[at]), *beam.candidates.take(np.array([at])).items_C.tolist()])
    return paths, sorted(items)


def _searched(codes_NM: IntArray, codes: int, seed: int, barred: float, config: MarginalSearchConfig) -> None:
    """Search both ways from random probabilities, and compare all that comes out."""
    rng = np.random.default_rng(seed)
    log_prob_BN = rng.normal(0, rng.uniform(0.5, 5), (3, len(codes_NM))).astype(np.float32)
    eligible_BN = rng.random(log_prob_BN.shape) >= barred
    row_P = np.flatnonzero(eligible_BN.any(axis=1))
    if not len(row_P):
        return
    prob_BN, index = item_probabilities(log_prob_BN, eligible_BN), ValidityIndex(codes_NM, codes)
    slow, fast = MarginalSearch(index, prob_BN, config), CompiledSearch(CodeTable.of(index), index, prob_BN, config)
    wanted, got = slow.run(row_P, eligible_BN[row_P]), fast.run(row_P, eligible_BN[row_P])
    _compare(wanted, got)
    assert len(slow.cuts) == len(fast.cuts)
    for one, other in zip(slow.cuts, fast.cuts, strict=True):
        assert isinstance(one, UnlikelyPaths)
        _compare(one.beam, other.beam)


def _compare(wanted: Beam, got: Beam) -> None:
    wanted_paths, wanted_items = _found(wanted)
    got_paths, got_items = _found(got)
    assert got_paths.keys() == wanted_paths.keys()
    for key, (order, log_prob) in wanted_paths.items():
        assert got_paths[key][0] == order
        assert got_paths[key][1] == pytest.approx(log_prob, abs=1e-9)
    assert got_items == wanted_items
    np.testing.assert_allclose(np.sort(got.confidence_PM, None), np.sort(wanted.confidence_PM, None), rtol=1e-5)


@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 60),
    books=st.integers(1, 5),
    codes=st.integers(2, 9),
    barred=st.sampled_from([0.0, 0.3, 0.95]),
    paths=st.integers(1, 40),
    finish_below=st.integers(1, 8),
    min_steps=st.integers(1, 3),
    enough=st.sampled_from([1.0, 0.9, 0.4]),
    some=st.booleans(),
)
def test_search_when_any_catalogue_is_searched_then_paths_are_those_of_the_readable_search(
    seed: int,
    items: int,
    books: int,
    codes: int,
    barred: float,
    paths: int,
    finish_below: int,
    min_steps: int,
    enough: float,
    some: bool,
) -> None:
    codes_NM = np.random.default_rng(seed).integers(0, codes, (items, books))
    config = MarginalSearchConfig(num_paths=paths, finish_below=finish_below, min_steps=min_steps, enough=enough)
    if some:  # every other codebook is open
        config = config.model_copy(update={"codebooks": tuple(range(0, books, 2))})
    _searched(codes_NM, codes, seed, barred, config)


@pytest.mark.parametrize("settings", [{"pruning": "mean"}, {"pruning": "weibull"}, {"fewest_paths": 2}])
@pytest.mark.parametrize("seed", range(5))
def test_search_when_paths_are_pruned_or_counted_by_perplexity_then_so_are_the_compiled_ones(
    settings: dict[str, object], seed: int
) -> None:
    codes_NM = np.random.default_rng(seed).integers(0, 300, (400, 6))
    _searched(codes_NM, 300, seed, 0.2, MarginalSearchConfig.model_validate({"num_paths": 30, **settings}))


def test_search_when_all_items_are_eligible_then_none_needs_a_mask() -> None:
    codes_NM = np.random.default_rng(0).integers(0, 6, (80, 4))
    index = ValidityIndex(codes_NM, 6)
    prob_BN = item_probabilities(np.random.default_rng(1).normal(0, 2, (2, 80)).astype(np.float32), None)
    config = MarginalSearchConfig(num_paths=9)
    fast = CompiledSearch(CodeTable.of(index), index, prob_BN, config)
    _compare(MarginalSearch(index, prob_BN, config).run(np.arange(2), None), fast.run(np.arange(2), None))


def test_search_when_corp_prunes_then_paths_and_cuts_are_those_of_the_readable_search() -> None:
    codes_NM = np.random.default_rng(2).integers(0, 4, (60, 3))
    index, categories = ValidityIndex(codes_NM, 4), Categories(category_N=np.arange(60) % 4, count=4)
    prob_BN = item_probabilities(np.random.default_rng(3).normal(0, 2, (2, 60)).astype(np.float32), None)
    config = MarginalSearchConfig(num_paths=5, corp=True, theta=0.05)
    slow = MarginalSearch(index, prob_BN, config, categories=categories)
    fast = CompiledSearch(CodeTable.of(index), index, prob_BN, config, categories=categories)
    _compare(slow.run(np.arange(2), None), fast.run(np.arange(2), None))
    assert len(slow.cuts) == len(fast.cuts) > 0


def test_compiled_searcher_when_it_is_made_then_has_compiled_what_any_search_of_its_catalogue_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is compiled in a request, whether few of its items hold most of the probability or all hold alike."""
    called: set[tuple[Any, ...]] = set()
    for name in ("_token_mass", "_all_token_mass", "_add_mass"):
        kernel = getattr(first_codebook, name)

        def noted(*arguments: Any, kernel: Any = kernel, name: str = name) -> Any:
            kinds = [(one.dtype, one.flags.c_contiguous) for one in arguments if isinstance(one, np.ndarray)]
            called.add((name, *kinds))
            return kernel(*arguments)

        monkeypatch.setattr(first_codebook, name, noted)
    index = ValidityIndex(np.random.default_rng(0).integers(0, 4, (60, 3)), 4)
    config = MarginalSearchConfig(num_paths=2)
    searcher = compiled_searcher(index)
    at_start = set(called)
    for spread in (0.0, 9.0):
        log_prob_BN = np.random.default_rng(1).normal(0, spread, (4, 60)).astype(np.float32)
        prob_BN = item_probabilities(log_prob_BN, None)
        searcher(index, prob_BN, config).run(np.arange(4), None)
    assert {name for name, *_ in called} == {"_token_mass", "_all_token_mass", "_add_mass"}
    assert called == at_start
