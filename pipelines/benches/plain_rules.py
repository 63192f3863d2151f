"""What a slate may hold, checked item by item in the plainest way from the text of the API; shares no code with it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.core.arrays import FloatArray, IntArray
from serving.release import Release

NOW = int(time.time())


@dataclass(frozen=True, kw_only=True)
class World:
    """A drawn catalogue, as the service and as the check see it; ``codes`` are of two codebooks."""

    release: Release
    ids: Sequence[str]
    price: Sequence[float | None]
    brand: Sequence[str | None]
    genres: Sequence[Sequence[str]]
    codes: IntArray


def faults(
    world: World,
    body: dict[str, Any],
    rules: list[dict[str, Any]],
    past: list[str],
    *,
    shown: list[int],
    scores: FloatArray | None,
) -> set[str]:
    """Return what is wrong with a slate; its order is checked where scores are given, without pins and caps."""
    forced = [rule for rule in rules if _forced(rule, body["surface"])]
    open_ = [row for row in range(len(world.ids)) if _open(world, row, body, forced, past)]
    caps = [rule for rule in forced if rule["kind"] == "cap"]
    pins = [rule for rule in forced if rule["kind"] == "pin"]
    size = min(body["n"], len(open_))
    wrong = set()
    if not set(shown) <= set(open_):
        wrong.add("an item that may not be shown")
    if len(set(shown)) < len(shown):
        wrong.add("an item twice")
    if len(shown) > size or (not caps and len(shown) < size):
        wrong.add("not full")
    if any(_over(world, shown, cap, size) for cap in caps):
        wrong.add("a cap")
    if len(pins) == 1 and not caps and world.ids.index(pins[0]["items"][0]) in open_:
        place = pins[0]["position"] - 1
        if place < size and shown[place] != world.ids.index(pins[0]["items"][0]):
            wrong.add("a pin")
    if scores is not None and not caps and not pins:
        lifted = {row: float(scores[row]) + _bonus(world, row, body, forced) for row in open_}
        best = sorted(lifted.values(), reverse=True)[:size]
        if not np.allclose([lifted.get(row, np.inf) for row in shown], best[: len(shown)], atol=1e-4):
            wrong.add("the order")
    return wrong


def _forced(rule: dict[str, Any], surface: str) -> bool:
    """Tell whether a rule is for this surface and moment."""
    return surface in rule.get("surfaces", [surface]) and rule.get("starts_at", NOW) <= NOW < rule.get(
        "ends_at", NOW + 1
    )


def _open(world: World, row: int, body: dict[str, Any], rules: Sequence[dict[str, Any]], past: Sequence[str]) -> bool:
    """Tell whether an item may be shown, caps aside."""
    item, steer = world.ids[row], body.get("steer", {})
    return (
        item not in body["exclude"]
        and item not in past
        and _fulfils(world, row, body.get("filter", {}))
        and all(_has(world, row, facet) for facet in steer.get("require", []))
        and not any(_has(world, row, facet) for facet in steer.get("avoid", []))
        and not any(_for(world, row, rule) for rule in rules if rule["kind"] == "exclude")
    )


def _bonus(world: World, row: int, body: dict[str, Any], rules: Sequence[dict[str, Any]]) -> float:
    """Return what preferences and rules add to an item's log-probability."""
    bonus = float(sum(_has(world, row, facet) for facet in body.get("steer", {}).get("prefer", [])))
    for rule in rules:
        if rule["kind"] in ("boost", "bury") and _for(world, row, rule):
            bonus += math.log(2) if rule["kind"] == "boost" else -math.log(2)
    return bonus


def _for(world: World, row: int, rule: dict[str, Any]) -> bool:
    """Tell whether a rule is for an item."""
    return world.ids[row] in rule.get("items", []) or ("where" in rule and _fulfils(world, row, rule["where"]))


def _over(world: World, shown: Sequence[int], cap: dict[str, Any], size: int) -> bool:
    """Tell whether a value of the capped column has more places than its share."""
    values = [world.genres[row] if cap["by"] == "categories" else [world.brand[row]] for row in shown]
    flat = [part for value in values for part in value if part is not None]
    return any(flat.count(part) > cap["share"] * size + 1e-9 for part in set(flat))


def _has(world: World, row: int, facet: Any) -> bool:
    """Tell whether an item has a facet, given as [codebook, code] or in words, which are the two numbers here."""
    book, code = facet.split(" ") if isinstance(facet, str) else facet
    return bool(world.codes[row, int(book)] == int(code))


def _fulfils(world: World, row: int, wanted: dict[str, Any]) -> bool:
    """Tell whether an item fulfils a filter."""
    own = [genre.casefold() for genre in world.genres[row]]
    return (
        (not wanted.get("category_in") or any(one.casefold() in own for one in wanted["category_in"]))
        and not any(one.casefold() in own for one in wanted.get("category_not", []))
        and all(_meets(world, row, condition) for condition in wanted.get("where", []))
    )


def _meets(world: World, row: int, condition: dict[str, Any]) -> bool:
    """Tell whether an item meets a condition on a column."""
    op, value = condition["op"], condition["value"]
    if condition["field"] == "price":
        price = world.price[row]
        return price is not None and (price < value if op == "<" else price >= value)
    brand = (world.brand[row] or "").casefold()
    return brand not in [one.casefold() for one in value] if op == "not in" else brand == value.casefold()
