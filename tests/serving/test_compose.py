"""Slates under bonuses, caps, pins and sampled places, against a slow way that one can read.

Axes: N item.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import Slate
from recsys.core.arrays import BoolArray, FloatArray
from recsys.decoding.evidence import RankedItems
from recsys.decoding.kept_places import KeptPlaces, fill_places
from serving.compose import compose
from serving.plan import Cap, Exploration, Pin, Plan

SIZE = 8


@dataclass(frozen=True)
class Table:
    """Ranks by a table of scores, equal scores by row."""

    scores_N: FloatArray

    def rank(self, masks: Sequence[BoolArray], n: int) -> list[Slate]:
        slates = []
        for mask in masks:
            rows = np.flatnonzero(mask)
            rows = rows[np.lexsort((rows, -self.scores_N[rows]))][:n]
            slates.append(Slate(items=rows, scores=self.scores_N[rows]))
        return slates


def slowly(plan: Plan, scores_N: FloatArray) -> list[int]:
    """Return the rows of a plan's slate without sampling: one pass over all items, best first, with pins put in."""
    limits = [int(cap.share * plan.n + 1e-9) for cap in plan.caps]
    used: list[Counter[int]] = [Counter() for _ in plan.caps]

    def fits(row: int) -> bool:
        return all(
            used[number][group] < limits[number] for number, cap in enumerate(plan.caps) for group in cap.groups[row]
        )

    def take(row: int) -> None:
        for number, cap in enumerate(plan.caps):
            used[number].update(cap.groups[row])

    pinned: dict[int, int] = {}
    for pin in plan.pins:
        if plan.eligible_N[pin.row] and fits(pin.row):
            pinned[pin.place] = pin.row
            take(pin.row)
    bonus_N = np.zeros(SIZE) if plan.bonus_N is None else plan.bonus_N
    total_N = (scores_N + bonus_N).astype(np.float32)
    slate: list[int] = []
    for row in sorted(range(SIZE), key=lambda row: (-total_N[row], row)):
        if len(slate) == plan.n - len(pinned):
            break
        if plan.eligible_N[row] and row not in pinned.values() and fits(row):
            slate.append(row)
            take(row)
    for place in sorted(pinned):
        slate.insert(min(place, len(slate)), pinned[place])
    return slate


def cap_of(members: Sequence[Sequence[int]], share: float) -> Cap:
    groups = [tuple(number for number, rows in enumerate(members) if row in rows) for row in range(SIZE)]
    return Cap(groups=groups, members=[np.asarray(sorted(rows), np.int64) for rows in members], share=share)


ROWS = st.sets(st.integers(0, SIZE - 1))
SCORES = st.lists(st.integers(-5, 5), min_size=SIZE, max_size=SIZE).map(lambda values: np.array(values, np.float32))
CAPS = st.lists(
    st.builds(cap_of, st.lists(ROWS, min_size=1, max_size=3), st.sampled_from([0.0, 0.2, 0.5, 1.0])), max_size=2
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a plan whose pins have places and rows of their own, all inside the slate."""
    n = draw(st.integers(1, SIZE))
    rows = draw(st.lists(st.integers(0, SIZE - 1), unique=True, max_size=3))
    places = draw(st.lists(st.integers(0, n - 1), unique=True, min_size=min(len(rows), n), max_size=min(len(rows), n)))
    bonus = draw(st.none() | st.lists(st.sampled_from([-2.0, 0.0, 1.5]), min_size=SIZE, max_size=SIZE))
    return Plan(
        n=n,
        eligible_N=np.array(draw(st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))),
        bonus_N=None if bonus is None else np.array(bonus, np.float32),
        caps=draw(CAPS),
        pins=[Pin(row=row, place=place, label="pin") for row, place in zip(rows, places, strict=False)],
    )


@given(plan=plans(), scores_N=SCORES)
def test_compose_when_bounded_in_any_way_then_is_what_the_slow_way_gives(plan: Plan, scores_N: FloatArray) -> None:
    expected = slowly(plan, scores_N)
    composed = compose(plan, Table(scores_N), np.random.default_rng(0))
    assert [place.row for place in composed.places] == expected


@given(plan=plans(), scores_N=SCORES, share=st.sampled_from([0.2, 0.5, 1.0]), seed=st.integers(0, 99))
def test_compose_when_places_are_sampled_then_the_slate_is_legal_and_as_full_as_caps_let_it(
    plan: Plan, scores_N: FloatArray, share: float, seed: int
) -> None:
    plan.exploration = Exploration(share=share, temperature=1.0, pool=SIZE)
    composed = compose(plan, Table(scores_N), np.random.default_rng(seed))
    rows = [place.row for place in composed.places]
    assert len(set(rows)) == len(rows) <= plan.n
    assert all(plan.eligible_N[row] for row in rows)
    assert all(0 < place.propensity <= 1 for place in composed.places)
    for cap in plan.caps:
        counts = Counter(group for row in rows for group in cap.groups[row])
        assert all(count <= int(cap.share * plan.n + 1e-9) for count in counts.values())
    if not plan.caps:
        assert len(rows) == min(plan.n, int(plan.eligible_N.sum()))


def test_compose_when_sampled_often_then_slates_come_as_often_as_their_propensities_say() -> None:
    # Scores log 1, log 2, log 4: Plackett-Luce over three items, a slate of two.
    scores_N = np.log(np.array([1, 2, 4], np.float32))
    plan = Plan(n=2, eligible_N=np.ones(3, np.bool_), exploration=Exploration(share=1.0, temperature=1.0, pool=3))
    rng = np.random.default_rng(7)
    drawn: Counter[tuple[int, ...]] = Counter()
    said: dict[tuple[int, ...], float] = {}
    rounds = 6000
    for _ in range(rounds):
        places = compose(plan, Table(scores_N), rng).places
        slate = tuple(place.row for place in places)
        drawn[slate] += 1
        said[slate] = float(np.prod([place.propensity for place in places]))
    # e.g. (2, 1): 4/7 for the first place, then 2/3 of what is left.
    assert said[(2, 1)] == pytest.approx(4 / 7 * 2 / 3)
    assert sum(said[slate] for slate in permutations(range(3), 2)) == pytest.approx(1.0)
    for slate, share in said.items():
        spread = np.sqrt(share * (1 - share) / rounds)
        assert abs(drawn[slate] / rounds - share) < 5 * spread


def test_compose_when_half_is_sampled_then_the_first_half_is_the_best_with_propensity_1() -> None:
    scores_N = np.arange(SIZE, dtype=np.float32)
    plan = Plan(n=4, eligible_N=np.ones(SIZE, np.bool_), exploration=Exploration(share=0.5, temperature=9.0, pool=SIZE))
    places = compose(plan, Table(scores_N), np.random.default_rng(1)).places
    assert [place.row for place in places[:2]] == [7, 6]
    assert [place.propensity for place in places[:2]] == [1.0, 1.0]
    assert max(place.propensity for place in places[2:]) < 1


def test_compose_when_a_cap_binds_then_the_slate_is_filled_from_further_down() -> None:
    # Rows 0 to 5 are of one brand, at most half of four; 6 and 7 come last by score and fill it.
    scores_N = -np.arange(SIZE, dtype=np.float32)
    plan = Plan(n=4, eligible_N=np.ones(SIZE, np.bool_), caps=[cap_of([range(6)], 0.5)])
    assert [place.row for place in compose(plan, Table(scores_N), np.random.default_rng(0)).places] == [0, 1, 6, 7]


@dataclass(frozen=True)
class Kept:
    """Ranks by a table of scores, but for half of the places, which are kept for some rows."""

    scores_N: FloatArray
    kept: KeptPlaces

    def rank(self, masks: Sequence[BoolArray], n: int) -> list[Slate]:
        slates = []
        for mask in masks:
            found = [self._ranked(mask & (np.isin(np.arange(SIZE), self.kept.item_V) == kind), n) for kind in (0, 1)]
            slate = fill_places(*found, share=self.kept.share, n=n)
            slates.append(Slate(items=slate.item_S, scores=slate.score_S))
        return slates

    def _ranked(self, mask: BoolArray, n: int) -> RankedItems:
        (slate,) = Table(self.scores_N).rank([mask], n)
        return RankedItems(item_S=slate.items, score_S=slate.scores, reached_S=slate.items)


def test_compose_when_places_are_kept_and_a_rule_lifts_items_of_both_kinds_then_kept_places_stay() -> None:
    # rows 4 to 7 have half of the places; 1, 2 and 5 are lifted by 3
    scores_N = np.array([-1, -2, -3, -4, -9, -10, -11, -12], np.float32)
    ranker = Kept(scores_N, KeptPlaces(item_V=np.arange(4, 8), share=0.5))
    plan = Plan(n=6, eligible_N=np.ones(SIZE, np.bool_))
    assert [place.row for place in compose(plan, ranker, np.random.default_rng(0)).places] == [0, 4, 1, 5, 2, 6]
    plan.lift(np.isin(np.arange(SIZE), [1, 2, 5]), 3.0)
    # lifted: 1 at 1, 5 just below, 2 at 0; the others: 0 at -1, 4 just below, 3 at -4
    assert [place.row for place in compose(plan, ranker, np.random.default_rng(0)).places] == [1, 5, 2, 0, 4, 3]
