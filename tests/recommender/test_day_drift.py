"""A day beside the days before it: divergence, chance, and when a full training is advised."""

import numpy as np
import pytest

from recsys.core.arrays import IntArray
from recsys.recommender.day_drift import DayBounds, DayDrift, DayFacts, Scores, assess_day, diverge
from recsys.recommender.drift import Drift

CALM = Drift(
    items=0, verdict="similar", sentence="There are no new items.", shifts={}, far_share=None, ks=None, ks_p=None
)
ITEMS = 40


def assessed(day: IntArray, **facts: object) -> DayDrift:
    """Judge a day of a world whose 40 items are of four categories, ten each, and were used evenly."""
    known: dict[str, object] = {
        "reference_items_E": np.tile(np.arange(ITEMS), 25),
        "day_items_E": day,
        "category_N": np.arange(ITEMS) // 10,
        "codes_NM": np.stack([np.arange(ITEMS) % 5, np.arange(ITEMS) // 20], axis=1),
        "fitted": ITEMS,
        "trained": ITEMS,
        "updates": 1,
        "items": CALM,
        "scores": None,
    }
    return assess_day(DayFacts(**(known | facts)), DayBounds())  # type: ignore[arg-type]


def test_diverge_when_a_day_is_small_then_chance_explains_more() -> None:
    reference_K = np.array([100, 100, 100, 100])
    few = diverge(reference_K, np.array([3, 0, 1, 1]), significance=0.01, name="x")
    many = diverge(reference_K, np.array([300, 0, 100, 100]), significance=0.01, name="x")
    assert few.divergence == pytest.approx(many.divergence)
    assert few.by_chance > 10 * many.by_chance
    assert many.exceeds(0.1)
    assert not few.exceeds(0.1)
    assert diverge(reference_K, np.zeros(4, np.int64), significance=0.01, name="x").by_chance == 1.0


def test_assess_day_when_the_day_is_like_the_reference_then_an_update_is_enough() -> None:
    day = assessed(np.random.default_rng(0).integers(0, ITEMS, 500))
    assert day.reasons == ()
    assert "update is enough" in day.sentence
    assert day.to_json()["codes"][0]["divergence"] < 0.1


def test_assess_day_when_only_one_category_is_used_then_says_so() -> None:
    day = assessed(np.random.default_rng(0).integers(0, 10, 500))
    assert any("the categories of events are others" in reason for reason in day.reasons)
    # items 0 to 9 are all in the first half, which is the second codebook's first code
    assert any("codes of codebook 1" in reason for reason in day.reasons)
    assert not any("codes of codebook 0" in reason for reason in day.reasons)
    assert day.sentence.startswith("Train in full soon")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"trained": 20}, "% of events are of new items"),
        ({"fitted": 30}, "the catalogue has grown by 33%"),
        ({"updates": 31}, "31 updates followed"),
        ({"scores": Scores(questions=100, before=0.03, after=0.04, own_test=0.05)}, "NDCG@10 was 40% lower"),
    ],
)
def test_assess_day_when_a_bound_is_passed_then_names_it(facts: dict[str, object], reason: str) -> None:
    day = assessed(np.random.default_rng(0).integers(0, ITEMS, 500), **facts)
    assert len(day.reasons) == 1
    assert reason in day.reasons[0]


def test_assess_day_when_scores_hold_or_are_not_known_then_says_nothing_of_them() -> None:
    for scores in (
        None,
        Scores(questions=200, before=0.04, after=0.04, own_test=None),
        Scores(questions=99, before=0.0, after=0.04, own_test=0.05),
    ):
        assert assessed(np.arange(ITEMS), scores=scores).reasons == ()
