"""Slates from item probabilities with places that are kept for some items."""

import numpy as np
import pytest

from recsys.codes.validity import ValidityIndex
from recsys.contracts import Slate
from recsys.core.arrays import BoolArray, FloatArray
from recsys.core.seeds import rng_for
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.kept_places import KeptPlaces
from recsys.decoding.marginal_decoder import decode_by_marginals

NEW = np.arange(32, 40)
KEPT = KeptPlaces(item_V=NEW, share=0.5)


def _slates(
    config: MarginalSearchConfig, *, trace: bool, n: int = 6, eligible_BN: BoolArray | None = None
) -> list[Slate]:
    return decode_by_marginals(
        _scores(), _scores(), _index(), n=n, config=config, eligible_BN=eligible_BN, trace=trace, kept=KEPT
    )


def _index() -> ValidityIndex:
    return ValidityIndex(rng_for(3, "codes").integers(0, 6, (40, 3)), 6)


def _scores() -> FloatArray:
    """Return log-probabilities of 40 items for 5 rows, items 0 to 2 the best and the last eight the worst."""
    score_BN = rng_for(3, "scores").normal(size=(5, 40)).astype(np.float32)
    score_BN[:, NEW] -= 20
    score_BN[:, :3] += 20
    return score_BN


def _best(score_N: FloatArray, items: np.ndarray, n: int) -> list[int]:
    own = [item for item in np.argsort(-score_N, kind="stable").tolist() if item in items]
    return own[:n]


@pytest.mark.parametrize("trace", [True, False])
def test_slates_when_the_catalogue_is_ranked_then_kept_places_have_the_best_of_their_items(trace: bool) -> None:
    slates = _slates(MarginalSearchConfig(ranked="catalogue"), trace=trace)
    for slate, score_N in zip(slates, _scores(), strict=True):
        # half of the places: the 2nd, the 4th and the 6th
        assert slate.items[1::2].tolist() == _best(score_N, NEW, 3)
        assert slate.items[::2].tolist() == _best(score_N, np.arange(32), 3)
        assert (np.diff(slate.scores) < 0).all()


@pytest.mark.parametrize("trace", [True, False])
def test_slates_when_no_path_reaches_an_item_with_kept_places_then_it_has_its_place_and_no_path(trace: bool) -> None:
    config = MarginalSearchConfig(num_paths=1, finish_below=1, ranked="reached")
    for slate, score_N in zip(_slates(config, trace=trace), _scores(), strict=True):
        assert slate.items[1::2].tolist() == _best(score_N, NEW, 3)
        assert set(slate.items[::2].tolist()) < set(range(32))
        assert (np.diff(slate.scores) < 0).all()
        if trace:
            # the one path leads to the likeliest item
            assert slate.paths[0]
            assert not any(slate.paths[place] for place in (1, 3, 5))


def test_slates_when_paths_reach_all_items_then_all_have_paths_that_name_their_codes() -> None:
    index = _index()
    config = MarginalSearchConfig(num_paths=200, finish_below=1, ranked="reached")
    (exact, reached) = (_slates(one, trace=True) for one in (config.model_copy(update={"ranked": "catalogue"}), config))
    for one, other in zip(exact, reached, strict=True):
        np.testing.assert_array_equal(one.items, other.items)
        for item, paths in zip(other.items.tolist(), other.paths, strict=True):
            assert paths
            for path in paths:
                assert all(index.codes_MN[step.codebook, item] == step.code for step in path.steps)


@pytest.mark.parametrize("ranked", ["reached", "catalogue"])
@pytest.mark.parametrize("trace", [True, False])
def test_slates_when_items_of_one_kind_are_not_eligible_then_the_other_fills(ranked: str, trace: bool) -> None:
    config = MarginalSearchConfig.model_validate({"num_paths": 2, "finish_below": 1, "ranked": ranked})
    eligible_BN = np.zeros((5, 40), np.bool_)
    eligible_BN[0, [4, 9, 11]] = True  # no new items
    eligible_BN[1, [33, 39]] = True  # new ones alone
    eligible_BN[2, [5, 34, 35, 36]] = True  # one other: it has the first place
    eligible_BN[3, :33] = True  # one new item
    slates = _slates(config, trace=trace, eligible_BN=eligible_BN)
    assert [len(slate.items) for slate in slates] == [3, 2, 4, 6, 0]
    assert set(slates[0].items.tolist()) == {4, 9, 11}
    assert slates[1].items.tolist() == _best(_scores()[1], np.array([33, 39]), 2)
    assert slates[2].items.tolist() == [5, *_best(_scores()[2], np.array([34, 35, 36]), 3)]
    assert slates[3].items[1] == 32
    assert all((np.diff(slate.scores) < 0).all() for slate in slates)
