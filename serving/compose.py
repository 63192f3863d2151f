"""The making of a slate from a plan and a ranking: bonuses, caps, pins and sampled places, each exact.

Axes: N item.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.contracts import Path, Slate
from recsys.core.arrays import BoolArray, FloatArray
from serving.plan import Exploration, Plan


class Ranker(Protocol):
    """Ranks the items of one request under masks."""

    def rank(self, masks: Sequence[BoolArray], n: int) -> list[Slate]:
        """Return the best ``n`` items under each mask; scores are log-probabilities up to a constant."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """One item of a slate."""

    row: int
    score: float
    propensity: float = 1.0
    paths: tuple[Path, ...] = ()
    pinned_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A slate, best first, and the paths that were cut on the way."""

    places: tuple[Place, ...]
    pruned: tuple[Path, ...] = ()


class _Draft:
    """A slate in the making: what is chosen, and what may still be.

    Shape:
        open_N: (items,) what may still be chosen.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.open_N = plan.eligible_N.copy()
        self.chosen: list[Place] = []
        self.pruned: tuple[Path, ...] = ()
        self._limits = [int(cap.share * plan.n + 1e-9) for cap in plan.caps]
        self._used: list[Counter[int]] = [Counter() for _ in plan.caps]
        for cap, limit in zip(plan.caps, self._limits, strict=True):
            if limit == 0:
                for rows in cap.members:
                    self.open_N[rows] = False

    def take(self, place: Place) -> None:
        """Choose an item, and close the groups that its caps leave no room for."""
        self.chosen.append(place)
        self.open_N[place.row] = False
        for cap, limit, used in zip(self.plan.caps, self._limits, self._used, strict=True):
            for group in cap.groups[place.row]:
                used[group] += 1
                if used[group] == limit:
                    self.open_N[cap.members[group]] = False


def compose(plan: Plan, ranker: Ranker, rng: np.random.Generator) -> Composed:
    """Return the slate of a plan: as long as asked unless too few items may be shown.

    Without bounds it is the ranking of eligible items by score plus bonus. Caps skip items whose group is full. Pins
    stand at their places and count for the caps. Sampled places are the last ones.
    """
    if plan.plain:
        slate = ranker.rank([plan.eligible_N], plan.n)[0]
        return Composed(places=tuple(_places(slate)), pruned=slate.pruned)
    draft = _Draft(plan)
    pinned = _pinned(draft, ranker)
    draft.chosen = []
    wanted = plan.n - len(pinned)
    explored = 0 if plan.exploration is None else round(plan.exploration.share * wanted)
    _fill(draft, ranker, wanted - explored)
    if plan.exploration is not None and explored and len(draft.chosen) == wanted - explored:
        _sample(draft, ranker, plan.exploration, explored, rng)
    return Composed(places=tuple(_with_pins(draft.chosen, pinned)), pruned=draft.pruned)


def best(plan: Plan, ranker: Ranker, open_N: BoolArray, n: int) -> Slate:
    """Return the best ``n`` open items by score plus bonus.

    Among items of one bonus the order is the ranker's, so the best ``n`` of each are enough for the best ``n`` of all.

    Shape:
        open_N: (items,) what may be chosen.
    """
    if plan.bonus_N is None:
        return ranker.rank([open_N], n)[0]
    levels = np.unique(plan.bonus_N[open_N]).tolist()
    if not levels:
        return Slate(items=np.empty(0, np.int64), scores=np.empty(0, np.float32))
    slates = ranker.rank([open_N & (plan.bonus_N == np.float32(level)) for level in levels], n)
    items = np.concatenate([slate.items for slate in slates])
    scores = np.concatenate(
        [slate.scores + np.float32(level) for slate, level in zip(slates, levels, strict=True)]
    ).astype(np.float32)
    order = np.lexsort((items, -scores))[:n]
    paths = [path for slate in slates for path in (slate.paths or ((),) * len(slate.items))]
    return Slate(
        items=items[order],
        scores=scores[order],
        paths=tuple(paths[place] for place in order.tolist()),
        pruned=tuple(path for slate in slates for path in slate.pruned),
    )


def _fill(draft: _Draft, ranker: Ranker, wanted: int) -> None:
    """Choose the best open items one by one; where caps closed some of a ranking, rank again what is open."""
    while len(draft.chosen) < wanted:
        slate = best(draft.plan, ranker, draft.open_N, wanted - len(draft.chosen))
        draft.pruned = draft.pruned or slate.pruned
        if not len(slate.items):
            return
        for place in _places(slate):
            if draft.open_N[place.row]:
                draft.take(place)


def _sample(draft: _Draft, ranker: Ranker, exploration: Exploration, wanted: int, rng: np.random.Generator) -> None:
    """Choose open items by the Plackett-Luce law over the best of them.

    Scores over the temperature plus Gumbel noise, sorted, are a draw without replacement; skipping what caps close is a
    draw among what is open. A place's propensity is the softmax over the items that were open for it.
    """
    pool = best(draft.plan, ranker, draft.open_N, max(exploration.pool, wanted))
    logits = pool.scores.astype(np.float64) / exploration.temperature
    order = np.argsort(-(logits + rng.gumbel(size=len(logits))), kind="stable")
    places = _places(pool)
    for number in order.tolist():
        if wanted == 0:
            return
        if not draft.open_N[places[number].row]:
            continue
        still = draft.open_N[pool.items]
        weights = np.exp(logits - logits[still].max())
        propensity = float(weights[number] / weights[still].sum())
        one = places[number]
        draft.take(Place(row=one.row, score=one.score, propensity=propensity, paths=one.paths))
        wanted -= 1


def _pinned(draft: _Draft, ranker: Ranker) -> dict[int, Place]:
    """Return pinned items that may be shown by place, with the scores that the ranker gives them."""
    found: dict[int, Place] = {}
    for pin in draft.plan.pins:
        if not draft.open_N[pin.row]:
            continue
        alone_N = np.zeros(len(draft.open_N), np.bool_)
        alone_N[pin.row] = True
        ranked = _places(best(draft.plan, ranker, alone_N, 1))
        place = ranked[0] if ranked else Place(row=pin.row, score=0.0)
        found[pin.place] = Place(row=pin.row, score=place.score, paths=place.paths, pinned_by=pin.label)
        draft.take(found[pin.place])
    return found


def _with_pins(chosen: Sequence[Place], pinned: dict[int, Place]) -> list[Place]:
    slate = list(chosen)
    for place in sorted(pinned):
        slate.insert(min(place, len(slate)), pinned[place])
    return slate


def _places(slate: Slate) -> list[Place]:
    paths = slate.paths or ((),) * len(slate.items)
    rows: list[int] = slate.items.tolist()
    scores: FloatArray = slate.scores
    return [
        Place(row=row, score=score, paths=own) for row, score, own in zip(rows, scores.tolist(), paths, strict=True)
    ]
