"""The runtime scores as torch does, keeps states by what it read, and refuses what would make it read elsewhere."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import History, empty_history
from recsys.recommender.scorer import GeneratorScorer
from recsys.runtime.export import export_generator
from recsys.runtime.scorer import EncodedHistory, RuntimeScorer
from tests.runtime.worlds import ITEMS, history_of, random_generator

WORLDS = {
    "alone": random_generator(),
    "without a prior": random_generator(prior=False, seed=1),
    "with a member": random_generator(share=0.4, seed=2),
    "with a member of dot products": random_generator(share=0.4, seed=3, logits="dot"),
    "with two members": random_generator(share=0.4, seed=5, members=2),
    "with the member alone": random_generator(share=1.0, seed=4),
}
PAIRS = {
    name: (GeneratorScorer(generator), RuntimeScorer(export_generator(generator))) for name, generator in WORLDS.items()
}
TOLERANCE = 2e-5
"""Largest difference of two logits of steps: rounding of float32 sums in another order."""
ITEM_TOLERANCE = 5e-4
"""Largest difference of two log-probabilities of items: numbers of 16 bits."""


@given(
    name=st.sampled_from(sorted(PAIRS)),
    items=st.lists(st.integers(0, ITEMS - 1), max_size=80),
    gaps=st.lists(st.integers(0, 400), min_size=80, max_size=80),
)
def test_score_items_when_asked_for_any_history_then_equals_torch(name: str, items: list[int], gaps: list[int]) -> None:
    reference, runtime = PAIRS[name]
    history = history_of(items, gaps)
    expected = reference.score_items(reference.encode([history]))
    got_BN = runtime.score_items(runtime.encode([history]))
    np.testing.assert_allclose(got_BN, expected, atol=ITEM_TOLERANCE, rtol=1e-5)


@given(
    codes=st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=6),
    rows=st.lists(st.integers(0, 1), min_size=6, max_size=6),
)
def test_score_steps_when_asked_for_any_paths_then_equals_torch(codes: list[tuple[int, int]], rows: list[int]) -> None:
    reference, runtime = PAIRS["with a member"]
    histories = [history_of([1, 7, 3], [1, 30, 200]), empty_history()]
    row_P, codes_PM = np.array(rows[: len(codes)]), np.array(codes)
    expected = reference.score_steps(reference.encode(histories), row_P, codes_PM)
    got = runtime.score_steps(runtime.encode(histories), row_P, codes_PM)
    np.testing.assert_allclose(got.logits_PMK, expected.logits_PMK, atol=TOLERANCE, rtol=1e-5)
    np.testing.assert_allclose(got.category_PQ, expected.category_PQ, atol=TOLERANCE)


def test_score_items_when_several_histories_come_at_once_then_each_has_its_own_scores() -> None:
    runtime = PAIRS["alone"][1]
    histories = [history_of([1, 2], [5, 5]), empty_history(), history_of([4], [9])]
    together_BN = runtime.score_items(runtime.encode(histories))
    alone = [runtime.score_items(runtime.encode([history]))[0] for history in histories]
    np.testing.assert_array_equal(together_BN, np.stack(alone))


@pytest.fixture
def counting() -> tuple[RuntimeScorer, list[History]]:
    """Return a scorer that keeps two states, and the histories that it encoded."""
    runtime, encoded = RuntimeScorer(export_generator(WORLDS["alone"]), kept_states=2), []
    inner = runtime._encoded

    def note(history: History) -> EncodedHistory:
        encoded.append(history)
        return inner(history)

    runtime._encoded = note
    return runtime, encoded


def test_encode_when_the_same_history_comes_again_then_it_is_not_encoded_again(
    counting: tuple[RuntimeScorer, list[History]],
) -> None:
    runtime, encoded = counting
    history = history_of([1, 2], [5, 5])
    first, again = runtime.encode([history]), runtime.encode([history])
    assert len(encoded) == 1
    np.testing.assert_array_equal(first.states[0].query_D, again.states[0].query_D)


def test_encode_when_an_event_or_a_time_is_new_then_the_history_is_encoded_anew(
    counting: tuple[RuntimeScorer, list[History]],
) -> None:
    runtime, encoded = counting
    for items, gaps in (([1, 2], [5, 5]), ([1, 2, 3], [5, 5, 5]), ([1, 2], [5, 6])):
        runtime.encode([history_of(items, gaps)])
    assert len(encoded) == 3


def test_encode_when_more_states_come_than_are_kept_then_the_one_unused_longest_goes(
    counting: tuple[RuntimeScorer, list[History]],
) -> None:
    runtime, encoded = counting
    one, two, three = (history_of([item], [1]) for item in (1, 2, 3))
    for history in (one, two, one, three, one, two):  # three takes the place of two, so two is encoded again
        runtime.encode([history])
    assert [history.items[0] for history in encoded] == [1, 2, 3, 2]
    runtime.forget()
    runtime.encode([one])
    assert len(encoded) == 5


@pytest.mark.parametrize("item", [-1, ITEMS])
def test_encode_when_an_item_is_not_of_the_catalogue_then_it_is_refused(item: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 19"):
        PAIRS["alone"][1].encode([history_of([1, item], [1, 1])])


def test_score_items_when_a_weight_is_not_a_number_then_scores_are_none_either() -> None:
    generator = random_generator(seed=5)
    with torch.no_grad():
        generator.start[0] = float("nan")
    runtime = RuntimeScorer(export_generator(generator))
    assert np.isnan(runtime.score_items(runtime.encode([empty_history()]))).any()
