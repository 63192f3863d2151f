"""The choice of weights, against full rankings and against all weights there are."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from recsys.contracts import History, ItemScores
from recsys.core.arrays import FloatArray
from recsys.data.splits import Questions
from recsys.recommender.evidence import mixed_scores
from recsys.recommender.weights import ValidationScores, choose_weights, sharpness
from recsys.sequence.validation import mean_ndcg

ITEMS = 60


def _source(seed: int) -> ItemScores:
    """Scores that depend on a history's first item alone, with ties."""
    table_NN = np.random.default_rng(seed).integers(0, 40, (ITEMS, ITEMS)).astype(np.float32)

    def source(queries: Sequence[History]) -> FloatArray:
        return np.stack([table_NN[history.items[0]] for history in queries])

    return source


def _asked(users: int = 300) -> Questions:
    rng = np.random.default_rng(9)
    return Questions(
        users_U=np.arange(users),
        histories=[
            History(items=rng.integers(0, ITEMS, length), timestamps=np.arange(length))
            for length in rng.integers(1, 9, users).tolist()
        ],
        targets_U=rng.integers(0, ITEMS, users),
    )


def _by_full_ranking(sources: dict[str, ItemScores], weights: dict[str, float], queries: Questions) -> float:
    return mean_ndcg(mixed_scores(sources, weights), queries.histories, queries.targets_U)


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"b": 1.0}, {"a": 0.5, "c": 0.5}, {"a": 0.2, "b": 0.3, "c": 0.5}])
def test_contest_when_all_items_are_kept_then_its_figure_is_that_of_full_ranking(weights: dict[str, float]) -> None:
    sources = {"a": _source(1), "b": _source(2), "c": _source(3)}
    scored = ValidationScores.of(sources, _asked(), kept=ITEMS)
    assert scored.ndcg(weights) == pytest.approx(_by_full_ranking(sources, weights, _asked()), abs=1e-12)


def test_contest_when_few_items_are_kept_then_single_sources_are_still_exact() -> None:
    sources = {"a": _source(1), "b": _source(2)}
    scored = ValidationScores.of(sources, _asked(), kept=15)
    for name in sources:
        assert scored.ndcg({name: 1.0}) == pytest.approx(_by_full_ranking(sources, {name: 1.0}, _asked()), abs=1e-12)


def test_contest_when_the_history_holds_the_target_then_it_is_never_found() -> None:
    queries = Questions(
        users_U=np.arange(2),
        histories=[History(items=np.array([3, 4]), timestamps=np.arange(2))] * 2,
        targets_U=np.array([4, 5]),
    )
    best = np.zeros((1, ITEMS), np.float32)
    best[0, [4, 5]] = 1
    scored = ValidationScores.of({"sure": lambda histories: np.repeat(best, len(histories), axis=0)}, queries)
    assert scored.ndcg({"sure": 1.0}) == 0.5  # the first of two users has item 4 already, the second's is first


def test_weights_when_chosen_then_no_move_of_a_twentieth_is_better_and_they_sum_to_one() -> None:
    sources = {"a": _source(1), "b": _source(2), "c": _source(3)}
    scored = ValidationScores.of(sources, _asked())
    found = choose_weights(scored)
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert found.ndcg == scored.ndcg(found.weights)
    for giver, taker in itertools.permutations(sources, 2):
        if found.weights[giver]:
            moved = found.weights | {
                giver: found.weights[giver] - 0.05,
                taker: found.weights[taker] + 0.05,
            }
            assert scored.ndcg(moved) <= found.ndcg


def test_weights_when_there_are_two_sources_in_quarters_then_the_best_of_all_five_is_found() -> None:
    # two sources have one line of weights; from its best end or middle a quarter's moves reach a local best
    scored = ValidationScores.of({"a": _source(1), "b": _source(2)}, _asked())
    found = choose_weights(scored, steps=4)
    local = [scored.ndcg({"a": share / 4, "b": 1 - share / 4}) for share in range(5)]
    assert found.ndcg >= max(local[0], local[2], local[4])
    assert found.ndcg in local


def _oracle(queries: Questions) -> Callable[[Sequence[History]], FloatArray]:
    known = {id(history): target for history, target in zip(queries.histories, queries.targets_U.tolist(), strict=True)}

    def oracle(batch: Sequence[History]) -> FloatArray:
        return np.stack([10.0 * (np.arange(ITEMS) == known[id(history)]) for history in batch]).astype(np.float32)

    return oracle


def test_weights_when_one_source_knows_the_answer_then_every_unseen_target_is_first() -> None:
    queries = _asked()
    best = choose_weights(ValidationScores.of({"noise": _source(1), "oracle": _oracle(queries)}, queries), steps=2)
    unseen = [target not in history.items for history, target in zip(queries.histories, queries.targets_U, strict=True)]
    assert best.weights["oracle"] > 0
    assert best.ndcg == pytest.approx(np.mean(unseen))


def test_weights_when_sources_are_named_then_the_others_have_no_say() -> None:
    queries = _asked()
    scored = ValidationScores.of({"noise": _source(1), "other": _source(2), "oracle": _oracle(queries)}, queries)
    assert set(choose_weights(scored, ["noise", "other"]).weights) == {"noise", "other"}


def test_sharpness_when_targets_are_drawn_from_a_sharper_distribution_then_its_factor_is_found() -> None:
    rng = np.random.default_rng(3)
    scores_NN = rng.normal(0, 1, (ITEMS, ITEMS))
    histories = [History(items=np.array([start]), timestamps=np.zeros(1, np.int64)) for start in range(ITEMS)] * 50
    targets = []
    for history in histories:
        prob_N = np.exp(1.5 * scores_NN[history.items[0]])
        prob_N[history.items] = 0
        targets.append(int(rng.choice(ITEMS, p=prob_N / prob_N.sum())))
    queries = Questions(users_U=np.arange(len(targets)), histories=histories, targets_U=np.array(targets))
    table: ItemScores = lambda batch: np.stack([scores_NN[one.items[0]] for one in batch]).astype(np.float32)  # noqa: E731
    # 3,000 draws: the information on the factor is the variance of a score, about 1, so its error is about .02
    assert sharpness({"a": table, "b": table}, {"a": 0.25, "b": 0.75}, queries) == pytest.approx(1.5, abs=0.11)


def test_sharpness_when_every_user_has_what_came_next_then_it_is_one() -> None:
    history = History(items=np.array([3, 4]), timestamps=np.arange(2))
    queries = Questions(users_U=np.arange(2), histories=[history] * 2, targets_U=np.array([4, 3]))
    assert sharpness({"a": _source(1), "b": _source(2)}, {"a": 0.25, "b": 0.75}, queries) == 1.0
