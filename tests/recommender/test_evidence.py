from collections.abc import Sequence

import numpy as np
import pytest

from recsys.contracts import History
from recsys.core.arrays import FloatArray
from recsys.data.splits import Questions
from recsys.model.tokens.mixture import token_log_probs
from recsys.recommender.evidence import Evidence, choose_weights, simplex, weighted_sum
from recsys.sequence.validation import mean_ndcg
from tests.support.tiny_tokens import histories, tiny_mixture


def _random_source(seed: int, *, items: int = 30) -> "object":
    """Scores that depend on a history's first item alone."""
    table_NN = np.random.default_rng(seed).normal(size=(items, items)).astype(np.float32)

    def source(asked: Sequence[History]) -> FloatArray:
        return np.stack([table_NN[history.items[0]] for history in asked])

    return source


def _asked(users: int = 300, items: int = 30) -> Questions:
    rng = np.random.default_rng(9)
    starts = rng.integers(0, items, (users, 2))
    return Questions(
        users_U=np.arange(users),
        histories=[History(items=row, timestamps=np.arange(2)) for row in starts],
        targets_U=rng.integers(0, items, users),
    )


def test_simplex_when_three_names_share_halves_then_all_six_mixtures_come_once() -> None:
    found = simplex("abc", 2)
    assert len(found) == 6
    assert found[0] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert all(sum(weights.values()) == 1 for weights in found)


def test_weights_when_chosen_then_each_figure_is_the_mean_ndcg_of_the_weighted_sum() -> None:
    sources = {"one": _random_source(1), "two": _random_source(2)}
    asked = _asked()
    for weighed in choose_weights(sources, asked, steps=4):  # type: ignore[arg-type]
        scored = Evidence(sources, belief=weighed.weights, rank=weighed.weights)  # type: ignore[arg-type]
        wanted = mean_ndcg(lambda batch: scored.of(batch)[1].copy(), asked.histories, asked.targets_U)  # noqa: B023
        assert weighed.ndcg == pytest.approx(wanted)


def test_weights_when_one_source_knows_the_answer_then_it_gets_all() -> None:
    asked = _asked()
    known = {id(history): target for history, target in zip(asked.histories, asked.targets_U.tolist(), strict=True)}

    def oracle(batch: Sequence[History]) -> FloatArray:
        return np.stack([10.0 * (np.arange(30) == known[id(history)]) for history in batch]).astype(np.float32)

    best = choose_weights({"noise": _random_source(1), "oracle": oracle}, asked, steps=2)[0]  # type: ignore[dict-item]
    unseen = [target not in history.items for history, target in zip(asked.histories, asked.targets_U, strict=True)]
    assert best.weights["oracle"] > 0
    assert best.ndcg == pytest.approx(np.mean(unseen))  # a target that the history holds is never found


def test_token_log_probs_when_a_mixture_is_asked_then_they_are_normalised_over_the_catalogue() -> None:
    log_prob_BN = token_log_probs(tiny_mixture())(histories())
    np.testing.assert_allclose(np.exp(log_prob_BN).sum(axis=1), 1.0, rtol=1e-5)


def test_weights_when_they_name_no_source_or_none_has_any_then_the_error_says_so() -> None:
    with pytest.raises(ValueError, match="must be of the sources"):
        Evidence({"one": _random_source(1)}, belief={"two": 1.0}, rank={"one": 1.0})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="must have a weight"):
        weighted_sum({"one": np.zeros((1, 1), np.float32)}, {"one": 0.0})
