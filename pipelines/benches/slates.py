"""Bench slates: a hundred thousand slates under random rules, filters and steering, each checked in the plainest way.

The catalogue, the scores and the requests are drawn; the plan and the slate are made by the service's own code. What
checks them (plain_rules.py) is written again from the words of the API and shares no code with it.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.benches.measure import Line
from pipelines.benches.plain_rules import NOW, World, faults
from recsys.contracts import Slate
from recsys.core.arrays import BoolArray, FloatArray
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from serving.asking import RequestContext, question
from serving.compose import compose
from serving.facets import facet_table
from serving.histories import KnownUser
from serving.items import item_table
from serving.plan import add_exploration
from serving.release import Release, State
from serving.rules import NamedRule
from serving.schemas.recommend import RecommendRequest
from serving.schemas.writes import Rule
from serving.settings import ServingConfig
from serving.store.events import UserPast

SLATES, ITEMS, CODES = 100_000, 40, 6
BRANDS, GENRES, SURFACES = ("A", "B", "C", "D"), ("noir", "comedy", "drama"), ("home", "mail")


class Scores:
    """A ranker whose scores are given."""

    def __init__(self, scores: FloatArray) -> None:
        self._scores = scores

    def rank(self, masks: Sequence[BoolArray], n: int) -> list[Slate]:
        """Return the best items under each mask."""
        slates = []
        for mask in masks:
            best = np.argsort(np.where(mask, -self._scores, np.inf), kind="stable")[: min(n, int(mask.sum()))]
            slates.append(Slate(items=best, scores=self._scores[best]))
        return slates


def bench_slates(slates: int = SLATES) -> list[Line]:
    """Make slates under random circumstances and count those in which anything is wrong."""
    rng = rng_for(0, "bench", "slates")
    wrong: Counter[str] = Counter()
    world, places = draw_world(rng), 0
    for number in track(range(slates), what="slates", total=slates):
        if number % 500 == 0:
            world = draw_world(rng)
        body, rules, past = draw_request(rng, world)
        scores = rng.standard_normal(ITEMS).astype(np.float32)
        explore = 0.3 if rng.random() < 0.2 else 0.0
        shown = answer(world, body, rules, past, scores=scores, explore=explore)
        places += len(shown)
        wrong.update(faults(world, body, rules, past, shown=shown, scores=None if explore else scores))
    what = "valid, eligible, unseen, distinct, full and by the rules"
    return [
        Line(what=f"{what}, of {slates:,} slates", ours=1 - min(1.0, sum(wrong.values()) / slates), unit="share"),
        Line(what="items shown in them", ours=places, unit="count"),
        *(Line(what=f"slates wrong: {name}", ours=count, unit="count") for name, count in sorted(wrong.items())),
    ]


def draw_world(rng: np.random.Generator) -> World:
    """Draw a catalogue with prices, brands, genres and codes; some of each are missing."""
    ids = [str(number) for number in rng.permutation(1000)[:ITEMS]]
    price = [None if rng.random() < 0.1 else float(rng.integers(1, 6)) for _ in ids]
    brand = [None if rng.random() < 0.1 else str(rng.choice(BRANDS)) for _ in ids]
    genres = [[str(one) for one in rng.permutation(GENRES)[: rng.integers(0, 3)]] for _ in ids]
    genres[0], codes = list(GENRES), rng.integers(CODES, size=(ITEMS, 2))
    codes[:CODES] = np.arange(CODES)[:, None]  # every code is some item's
    table = pa.table({"item_id": ids, "price": price, "brand": brand, "categories": genres})
    words = {(book, code): f"{book} {code}" for book in range(2) for code in range(CODES)}
    release = Release(
        version="drawn",
        folder=Path(),
        items=item_table(table, np.zeros(ITEMS, np.int64)),
        facets=facet_table(codes, words),
        model=None,
        state=State.READY,
        trained=ITEMS,
    )
    return World(release=release, ids=ids, price=price, brand=brand, genres=genres, codes=codes)


Drawn = tuple[dict[str, Any], list[dict[str, Any]], list[str]]


def draw_request(rng: np.random.Generator, world: World) -> Drawn:
    """Draw a request, the rules that exist, and what its user has."""

    def some(least: int, most: int) -> list[str]:
        return [world.ids[row] for row in rng.permutation(ITEMS)[: rng.integers(least, most + 1)].tolist()]

    def facets() -> list[Any]:
        drawn = [(int(rng.integers(2)), int(rng.integers(CODES))) for _ in range(rng.integers(0, 2))]
        return [f"{book} {code}" if rng.random() < 0.5 else [book, code] for book, code in drawn]

    body: dict[str, Any] = {"user_id": "u", "n": int(rng.integers(1, 13)), "exclude": some(0, 3)}
    body["surface"] = str(rng.choice(SURFACES))
    if rng.random() < 0.5:
        body["filter"] = _filter(rng)
    if rng.random() < 0.5:
        body["steer"] = {how: facets() for how in ("prefer", "require", "avoid")}
    return body, [_rule(rng, some) for _ in range(rng.integers(0, 4))], some(0, 5)


def answer(
    world: World,
    body: dict[str, Any],
    rules: list[dict[str, Any]],
    past: list[str],
    *,
    scores: FloatArray,
    explore: float,
) -> list[int]:
    """Return the rows that the service's code shows."""
    config = ServingConfig(explore_share=explore)
    named = tuple(
        NamedRule(name=f"rule-{place}", version=1, rule=Rule.model_validate(rule)) for place, rule in enumerate(rules)
    )
    request = RecommendRequest.model_validate(body)
    known = KnownUser(past=UserPast(events=tuple((item, 1) for item in past), seen=tuple(past)))
    context = RequestContext(rules=named, config=config, now=NOW)
    asked = question(world.release, request, known, context, n=request.n)
    add_exploration(asked.plan, config)
    asked.plan.n = min(asked.plan.n, int(np.count_nonzero(asked.plan.eligible_N)))
    if asked.plan.n == 0:
        return []
    composed = compose(asked.plan, Scores(scores), rng_for(int(scores.view(np.uint32)[0]), "explore"))
    return [place.row for place in composed.places]


def _filter(rng: np.random.Generator) -> dict[str, Any]:
    drawn: list[dict[str, Any]] = [
        {"category_in": [str(rng.choice(GENRES)).upper()]},
        {"category_not": [str(rng.choice(GENRES))]},
        {"where": [{"field": "price", "op": str(rng.choice(["<", ">="])), "value": int(rng.integers(1, 6))}]},
        {"where": [{"field": "brand", "op": "not in", "value": [str(rng.choice(BRANDS)).lower()]}]},
        {"where": [{"field": "brand", "op": "=", "value": str(rng.choice(BRANDS))}]},
    ]
    return drawn[int(rng.integers(len(drawn)))]


def _rule(rng: np.random.Generator, some: Any) -> dict[str, Any]:
    kind = str(rng.choice(["pin", "boost", "bury", "exclude", "cap"]))
    rule: dict[str, Any] = {"kind": kind}
    if kind == "pin":
        rule |= {"items": some(1, 1), "position": int(rng.integers(1, 8))}
    elif kind == "cap":
        rule |= {"by": str(rng.choice(["brand", "categories"])), "share": float(rng.choice([0.0, 0.34, 0.5, 1.0]))}
    elif rng.random() < 0.5:
        rule["items"] = some(1, 4)
    else:
        rule["where"] = _filter(rng)
    if rng.random() < 0.2:
        rule["surfaces"] = [str(rng.choice(SURFACES))]
    if rng.random() < 0.2:
        rule[str(rng.choice(["starts_at", "ends_at"]))] = NOW + int(rng.choice([-1000, 1000]))
    return rule
