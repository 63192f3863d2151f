"""Popularity, diversity and cold items of slates, and our ranking by its parts."""

import numpy as np
import pytest

from pipelines.benches.measure import as_result, beside
from recsys.codes.catalogue import Catalogue
from recsys.contracts import requests_for
from recsys.core.arrays import IntArray
from recsys.core.errors import ConfigError
from recsys.data.events import EventLog, build_log
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.evaluation.beyond import TrainingPart, cold_questions, diversity, popularity, rare_questions
from recsys.recommender.bundle import load_bundle
from recsys.recommender.parts import HEAD_ALONE, HEAD_RANKS_REACHED, PARTS, dissected


def small_log() -> EventLog:
    """Item 0 used by users 0, 1 and 2; item 1 by 0 and 1; item 2 by 3; item 3 by nobody."""
    users, items = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 0, 1, 0, 2])
    return build_log(users, items, np.arange(6), np.arange(6), num_users=4, num_items=4)


def slate(*items: int) -> IntArray:
    return np.array(items)


def test_popularity_when_counts_are_known_then_is_the_mean_percentile() -> None:
    part = TrainingPart.of(small_log())
    # counts 3, 2, 1, 0: ranks from below with ties in the middle are 3.5, 2.5, 1.5, .5 of 4
    assert part.percentile_N.tolist() == [0.875, 0.625, 0.375, 0.125]
    assert popularity([slate(0, 3), slate(1)], part) == pytest.approx((0.875 + 0.125 + 0.625) / 3)
    assert popularity([], part) == 0


def test_diversity_when_items_share_users_then_is_one_less_their_cosine() -> None:
    part = TrainingPart.of(small_log())
    # items 0 and 1 share two users of 3 and 2: 2 / sqrt(6) = .8165; item 2 shares none; an unused item is unlike all
    assert diversity([slate(0, 1)], part) == pytest.approx(1 - 2 / np.sqrt(6))
    # three pairs of which one has that cosine
    assert diversity([slate(0, 1, 2)], part) == pytest.approx(1 - 2 / np.sqrt(6) / 3)
    assert diversity([slate(0, 3), slate(2)], part) == 1
    assert diversity([slate(0)], part) == 0


def test_cold_questions_when_an_answer_was_never_seen_then_it_is_named() -> None:
    assert cold_questions(np.array([0, 3, 2, 3]), TrainingPart.of(small_log())).tolist() == [1, 3]


def test_rare_questions_when_an_answer_has_four_events_or_fewer_then_it_is_named() -> None:
    # item 0 used five times, item 1 four times, item 2 once, item 3 never
    items = np.array([0] * 5 + [1] * 4 + [2])
    log = build_log(np.arange(10), items, np.arange(10), np.arange(10), num_users=10, num_items=4)
    assert rare_questions(np.array([0, 1, 2, 3, 0]), TrainingPart.of(log)).tolist() == [1, 2, 3]


def test_dissected_when_some_parts_are_named_then_has_those_and_no_other_name(run) -> None:  # type: ignore[no-untyped-def]
    ours = load_bundle(run / "bundle", trace=False).generative
    assert [part.name for part in dissected(ours, [HEAD_ALONE])] == [HEAD_ALONE]
    with pytest.raises(ConfigError, match="paths alone"):
        dissected(ours, ["paths"])


def test_dissected_when_judged_then_each_part_ranks_as_it_says(run) -> None:  # type: ignore[no-untyped-def]
    ours = load_bundle(run / "bundle", trace=False).generative
    parts = {part.name: part for part in dissected(ours)}
    assert set(parts) == set(PARTS)
    queries = questions(load_prepared(run / "data").log, "test")
    histories = list(queries.histories[:20])
    scores_BN = ours.scorer.score_items(ours.scorer.encode(histories))
    for row, got in enumerate(parts[HEAD_ALONE].recommend(requests_for(histories, n=5))):
        scores_N = scores_BN[row].copy()
        scores_N[histories[row].items] = -np.inf
        assert got.items.tolist() == np.lexsort((np.arange(len(scores_N)), -scores_N))[:5].tolist()
    for row, got in enumerate(parts[HEAD_RANKS_REACHED].recommend(requests_for(histories, n=5))):
        heads = scores_BN[row, got.items]
        assert (np.diff(heads) <= 1e-6).all()
    assert ours.name == "recsys"
    assert isinstance(ours.catalogue, Catalogue)


def test_beside_when_the_peer_takes_twice_as_long_then_the_ratio_is_two() -> None:
    line = beside("x", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0], peer_name="p", unit="s")
    assert (line.ratio, line.ratio_low, line.ratio_high) == (2.0, 2.0, 2.0)
    result = as_result("x", [line])
    assert set(result.to_json()["rows"][0]) == {
        "what", "ours", "peer", "peer_name", "ratio", "ratio_low", "ratio_high", "unit", "figure",
    }  # fmt: skip
