from collections.abc import Sequence

import numpy as np
import pytest

from recsys.contracts import History
from recsys.core.arrays import FloatArray
from recsys.decoding.kept_places import KeptPlaces
from recsys.model.tokens.mixture import token_log_probs
from recsys.recommender.evidence import Evidence, NewItemEvidence, SharedSources, mixed_scores, weighted_sum
from tests.support.tiny_tokens import histories, tiny_mixture


def _random_source(seed: int, *, items: int = 30) -> "object":
    """Scores that depend on a history's first item alone."""
    table_NN = np.random.default_rng(seed).normal(size=(items, items)).astype(np.float32)

    def source(asked: Sequence[History]) -> FloatArray:
        return np.stack([table_NN[history.items[0]] for history in asked])

    return source


def test_token_log_probs_when_a_mixture_is_asked_then_they_are_normalised_over_the_catalogue() -> None:
    log_prob_BN = token_log_probs(tiny_mixture())(histories())
    np.testing.assert_allclose(np.exp(log_prob_BN).sum(axis=1), 1.0, rtol=1e-5)


def test_weights_when_they_name_no_source_or_none_has_any_then_the_error_says_so() -> None:
    with pytest.raises(ValueError, match="must be of the sources"):
        Evidence({"one": _random_source(1)}, search_weights={"two": 1.0}, rank_weights={"one": 1.0})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="must have a weight"):
        weighted_sum({"one": np.zeros((1, 1), np.float32)}, {"one": 0.0})


def test_mixed_scores_when_asked_then_they_are_the_weighted_sum_of_what_the_sources_say() -> None:
    sources = {"one": _random_source(1), "two": _random_source(2)}
    asked = histories()[1:]
    mixed = mixed_scores(sources, {"one": 0.25, "two": 0.75})(asked)  # type: ignore[arg-type]
    wanted = 0.25 * sources["one"](asked) + 0.75 * sources["two"](asked)  # type: ignore[operator]
    np.testing.assert_allclose(mixed, wanted, rtol=1e-5)


def test_shared_sources_when_two_have_one_name_then_they_compute_once_and_the_clock_counts_twice() -> None:
    calls: list[str] = []

    def source(batch: Sequence[History]) -> FloatArray:
        calls.append("one")
        return _random_source(1)(batch)  # type: ignore[operator]

    sources = SharedSources()
    both = {"one": source, "no weight": source}
    given = [
        Evidence(both, search_weights={"one": 1.0, "no weight": 0.0}, rank_weights={"one": weight})
        for weight in (1.0, 2.0)
    ]
    made = [sources.of(one) for one in given]
    asked, before = histories()[1:], sources.clock()
    (log_prob_BN, _), (again_BN, rank_BN) = (one.of(asked) for one in made)
    np.testing.assert_array_equal(log_prob_BN, again_BN)
    np.testing.assert_array_equal(rank_BN, 2 * log_prob_BN)
    assert calls == ["one"]
    saved = sum(one.saved_seconds for one in made[0].sources.values())  # type: ignore[attr-defined]
    assert sources.clock() - before > saved > 0


def test_evidence_when_a_source_without_a_weight_is_missing_then_nothing_changes() -> None:
    one = {"one": _random_source(1)}
    evidence = Evidence(one, search_weights={"one": 1.0, "two": 0.0}, rank_weights={"one": 1.0, "two": 0.0})  # type: ignore[arg-type]
    np.testing.assert_array_equal(evidence.of(histories()[1:])[1], one["one"](histories()[1:]))  # type: ignore[operator]


@pytest.mark.parametrize("factor", [1.0, 1.35])
def test_evidence_when_what_searches_is_what_ranks_times_a_factor_then_it_is_that_to_the_bit(factor: float) -> None:
    sources = {"one": _random_source(1), "two": _random_source(2)}
    ranking = {"one": 0.25, "two": 0.75, "no weight": 0.0}
    searching = {name: factor * weight for name, weight in ranking.items()}
    log_prob_BN, rank_BN = Evidence(sources, search_weights=searching, rank_weights=ranking).of(histories()[1:])  # type: ignore[arg-type]
    np.testing.assert_array_equal(log_prob_BN, np.float32(factor) * rank_BN)
    plain_BN = weighted_sum({name: source(histories()[1:]) for name, source in sources.items()}, searching)  # type: ignore[operator]
    np.testing.assert_allclose(log_prob_BN, plain_BN, rtol=1e-5)


def test_evidence_when_items_are_new_then_their_one_source_counts_as_if_it_had_all_weight() -> None:
    sources = {"one": _random_source(1), "two": _random_source(2), "words": _random_source(3)}
    new_items = NewItemEvidence(source="words", item_I=np.array([4, 29]), bonus=0.5)
    search_weights, rank_weights = {"one": 1.5}, {"one": 0.25, "two": 0.75}
    evidence = Evidence(sources, search_weights=search_weights, rank_weights=rank_weights, new_items=new_items)  # type: ignore[arg-type]
    plain = Evidence(sources, search_weights=search_weights, rank_weights=rank_weights)  # type: ignore[arg-type]
    asked = histories()[1:]
    scores_BI = sources["words"](asked)[:, [4, 29]] + 0.5  # type: ignore[operator]
    for found_BN, without_BN, weight in zip(evidence.of(asked), plain.of(asked), (1.5, 1.0), strict=True):
        np.testing.assert_allclose(found_BN[:, [4, 29]], weight * scores_BI, rtol=1e-5)
        others = np.delete(np.arange(30), [4, 29])
        np.testing.assert_array_equal(found_BN[:, others], without_BN[:, others])
    np.testing.assert_array_equal(evidence.ranking(asked), evidence.of(asked)[1])


def test_kept_places_when_a_share_is_set_then_they_are_of_the_new_items_with_what_is_added_and_else_none() -> None:
    one, item_I = {"one": _random_source(1)}, np.array([4, 29])
    weights, asked = {"one": 1.5}, histories()[1:]

    def kept(**settings: object) -> KeptPlaces | None:
        new_items = NewItemEvidence(source="one", item_I=item_I, **settings)
        evidence = Evidence(one, search_weights={"one": 1.0}, rank_weights=weights, new_items=new_items)
        return evidence.kept_places(asked)

    plain = kept(share=0.2)
    assert plain is not None
    assert (plain.item_V.tolist(), plain.share, plain.added_BV) == ([4, 29], 0.2, None)
    alike = kept(share=0.2, likeness=lambda histories: np.full((len(histories), 2), 4.0, np.float32))
    assert alike is not None
    # the log-probabilities count the sum of the weights, 1.5, and so does what is added to them
    np.testing.assert_array_equal(alike.added_BV, np.full((len(asked), 2), 6.0))
    assert kept() is None
    assert Evidence(one, search_weights=weights, rank_weights=weights).kept_places(asked) is None


def test_evidence_when_no_item_is_new_then_the_source_for_new_ones_is_not_asked() -> None:
    one = {"one": _random_source(1)}
    none = NewItemEvidence(source="words", item_I=np.array([], np.int64))
    evidence = Evidence(one, search_weights={"one": 1.0}, rank_weights={"one": 1.0}, new_items=none)  # type: ignore[arg-type]
    assert list(evidence.sources) == ["one"]
    some = NewItemEvidence(source="words", item_I=np.array([1]))
    with pytest.raises(ValueError, match=r"must be of the sources.*words"):
        Evidence(one, search_weights={"one": 1.0}, rank_weights={"one": 1.0}, new_items=some)  # type: ignore[arg-type]
