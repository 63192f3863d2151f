"""Slates under random circumstances are right, and the check finds each kind of wrong slate."""

import numpy as np
import pytest

from pipelines.benches.plain_rules import World, faults
from pipelines.benches.slates import ITEMS, answer, bench_slates, draw_request, draw_world

SCORES = -np.arange(ITEMS, dtype=np.float32)
BODY = {"user_id": "u", "n": 3, "exclude": [], "surface": "home"}


@pytest.fixture
def world() -> World:
    return draw_world(np.random.default_rng(0))


def test_bench_when_slates_are_drawn_then_none_is_wrong() -> None:
    share, items, *wrong = bench_slates(600)
    assert (share.ours, wrong) == (1.0, [])
    assert items.ours > 1200


def test_draw_request_when_repeated_then_every_kind_of_rule_filter_and_wish_comes(world: World) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_request(rng, world) for _ in range(300)]
    kinds = {rule["kind"] for _, rules, _ in drawn for rule in rules}
    assert kinds == {"pin", "boost", "bury", "exclude", "cap"}
    assert any("filter" in body for body, _, _ in drawn)
    assert {how for body, _, _ in drawn for how, facets in body.get("steer", {}).items() if facets} == {
        *("prefer", "require", "avoid")
    }


def test_faults_when_a_slate_is_wrong_then_each_kind_is_named(world: World) -> None:
    def found(*shown: int, rules: list[dict[str, object]] | None = None, past: list[str] | None = None) -> set[str]:
        return faults(world, BODY, rules or [], past or [], shown=list(shown), scores=SCORES)

    # Scores are minus the row: the best three are rows 0, 1, 2.
    assert answer(world, BODY, [], [], scores=SCORES, explore=0.0) == [0, 1, 2]
    assert found(0, 1, 2) == set()
    assert found(0, 2, 1) == {"the order"}
    assert found(0, 1) == {"not full"}
    assert "an item twice" in found(0, 1, 1)
    assert "an item that may not be shown" in found(0, 1, 2, past=[world.ids[1]])
    exclude = {"kind": "exclude", "items": [world.ids[0]]}
    assert "an item that may not be shown" in found(0, 1, 2, rules=[exclude])
    assert found(1, 2, 3, rules=[exclude]) == set()
    assert "a pin" in found(0, 1, 2, rules=[{"kind": "pin", "items": [world.ids[5]], "position": 1}])
    branded = [row for row in range(ITEMS) if world.brand[row] == "A"][:2]
    assert "a cap" in found(*branded, rules=[{"kind": "cap", "by": "brand", "share": 0.34}])
    assert found(3, 0, 1, rules=[{"kind": "boost", "items": [world.ids[3]]}]) == {"the order"}  # log 2 < 3
