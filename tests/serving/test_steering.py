"""Filters, rules, steering, lists and explanations over the API, worked out by hand and against brute force."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.settings import Keys
from tests.support.small_shop import (
    BRANDS,
    CATEGORIES,
    CODES_NM,
    FACETS,
    IDS,
    PRICES,
    Fake,
    event,
    ids,
    is_problem,
    make_run,
    opened,
    service_of,
)

ADMIN = {"X-API-Key": "boss"}
KEYS = Keys(admins=frozenset({"boss"}))


@pytest.fixture
def steered(shop: Path, fake: Fake) -> Iterator[TestClient]:
    with opened(shop, fake, keys=KEYS) as client:
        yield client


def shown(client: TestClient, **body: Any) -> list[Any]:
    return ids(client.post("/v1/recommend", json={"history": []} | body))


def rule(client: TestClient, name: str, **body: Any) -> Any:
    return client.put(f"/v1/rules/{name}", json=body, headers=ADMIN)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"category": "noir"}, ["10", "11", "15"]),
        ({"category_in": ["Noir", "comedy"]}, ["10", "11", "12", "13", "15"]),
        ({"category_in": ["Film"], "category_not": ["Comedy"]}, ["10", "11", "15"]),
        ({"where": [{"field": "price", "op": "<", "value": 3}]}, ["10", "11"]),
        ({"where": [{"field": "price", "op": ">=", "value": 3.0}]}, ["12", "13", "15"]),
        ({"where": [{"field": "brand", "op": "not", "value": "a"}]}, ["12", "13", "14", "15"]),
        ({"where": [{"field": "brand", "op": "in", "value": ["B", "C"]}]}, ["12", "13", "14"]),
        ({"where": [{"field": "categories", "value": "Comedy"}]}, ["12", "13"]),
        ({"category": "Noir", "where": [{"field": "price", "op": ">", "value": 1}]}, ["11", "15"]),
        ({"where": [{"field": "price", "value": True}]}, []),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_filter_when_given_then_only_items_that_fulfil_it_are_shown(
    shop: Path, wanted: dict[str, Any], expected: list[str], broken: bool
) -> None:
    with opened(shop, None if broken else Fake()) as client:
        assert sorted(shown(client, filter=wanted)) == expected


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        ({"category": "Opera"}, "Opera"),
        ({"where": [{"field": "colour", "value": "red"}]}, "colour"),
        ({"where": [{"field": "brand", "op": "<", "value": 3}]}, "brand"),
        ({"where": [{"field": "price", "op": "<", "value": "3"}]}, "number"),
        ({"where": [{"field": "price", "op": "in", "value": 3}]}, "list"),
        ({"where": [{"field": "price", "op": "~", "value": 3}]}, "op"),
    ],
)
def test_filter_when_it_cannot_be_then_says_what_to_change(client: TestClient, wanted: Any, word: str) -> None:
    answer = client.post("/v1/recommend", json={"history": [], "filter": wanted})
    assert is_problem(answer, 422)
    assert word in answer.text


def test_steer_when_facets_are_required_avoided_and_preferred_then_each_is_met(client: TestClient) -> None:
    # crime: 10, 11; night: 10, 12, 14.
    assert shown(client, steer={"require": ["Crime"]}) == ["10", "11"]
    assert shown(client, steer={"require": ["crime", "night"]}) == ["10"]
    assert shown(client, steer={"avoid": [[1, 2]]}) == ["11", "13", "15"]
    answer = client.post("/v1/recommend", json={"history": [], "n": 3, "steer": {"prefer": ["day", "war"]}})
    # Scores are minus the row; day (11, 13, 15) and war (14, 15) add 1 each: 10 and 11 at 0, then 13 and 12 at -2.
    assert ids(answer) == ["10", "11", "12"]
    assert [item["meets"] for item in answer.json()["items"]] == [[], ["day"], []]
    assert [item["score"] for item in answer.json()["items"]] == [0, 0, -2]


@pytest.mark.parametrize("facet", ["nonsense", [0, 99], [7, 0]])
def test_steer_when_a_facet_is_unknown_then_says_so(client: TestClient, facet: Any) -> None:
    assert is_problem(client.post("/v1/recommend", json={"history": [], "steer": {"require": [facet]}}), 422)


def test_rules_when_put_then_hold_for_every_slate_until_changed(steered: TestClient) -> None:
    assert rule(steered, "no-b", kind="exclude", where={"where": [{"field": "brand", "value": "B"}]}).status_code == 200
    assert shown(steered) == ["10", "11", "14", "15"]
    assert rule(steered, "up", kind="boost", items=[15], factor=1000).json()["version"] == 1
    assert shown(steered, n=2) == ["15", "10"]
    assert rule(steered, "first", kind="pin", items=["14"], position=2).status_code == 200
    answer = steered.post("/v1/recommend", json={"history": [], "n": 3})
    assert ids(answer) == ["15", "14", "10"]
    assert answer.json()["items"][1]["pinned_by"] == "first@1"
    assert answer.json()["rules"] == ["no-b@1", "up@1", "first@1"]
    assert shown(steered, rules=["no-b"], n=2) == ["10", "11"]
    assert shown(steered, rules=[], n=3) == ["10", "11", "12"]
    assert rule(steered, "up", kind="boost", items=[15], factor=1000, enabled=False).json()["version"] == 2
    assert shown(steered, n=2) == ["10", "14"]
    assert [one["name"] for one in steered.get("/v1/rules", headers=ADMIN).json()["rules"]] == ["first", "no-b", "up"]
    assert steered.get("/v1/rules/up", headers=ADMIN).json()["version"] == 2
    versions = steered.get("/v1/rules/up/versions", headers=ADMIN).json()["rules"]
    assert [one["version"] for one in versions] == [2, 1]
    assert versions[0]["rule"] != versions[1]["rule"]
    assert is_problem(steered.get("/v1/rules/none/versions", headers=ADMIN), 404)
    assert is_problem(steered.get("/v1/rules/none", headers=ADMIN), 404)
    assert is_problem(steered.post("/v1/recommend", json={"history": [], "rules": ["none"]}), 422)


def test_rules_when_capped_then_the_slate_stays_full(steered: TestClient) -> None:
    rule(steered, "brands", kind="cap", by="brand", share=0.34)
    # One of each brand in three: A (10), B (12), C (14); without the cap 10, 11, 12.
    assert shown(steered, n=3) == ["10", "12", "14"]
    rule(steered, "noir", kind="cap", where={"category": "Noir"}, share=0)
    assert shown(steered, n=6) == ["12", "13", "14"]


def test_rules_when_of_a_time_or_a_surface_then_hold_there_only(steered: TestClient) -> None:
    now = int(time.time())
    rule(steered, "past", kind="exclude", items=["10"], ends_at=now - 1)
    rule(steered, "future", kind="exclude", items=["10"], starts_at=now + 1000)
    rule(steered, "mail", kind="exclude", items=["10"], surfaces=["mail"])
    assert shown(steered, n=1) == ["10"]
    assert shown(steered, n=1, surface="mail") == ["11"]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "exclude"},
        {"kind": "pin", "items": ["10", "11"]},
        {"kind": "cap", "share": 0.5},
        {"kind": "cap", "by": "colour", "share": 0.5},
        {"kind": "exclude", "where": {"category": "Opera"}},
        {"kind": "nonsense", "items": ["10"]},
    ],
)
def test_rules_when_they_cannot_be_then_are_refused(steered: TestClient, body: dict[str, Any]) -> None:
    assert is_problem(rule(steered, "bad", **body), 422)


def test_lists_when_asked_then_come_in_their_order_with_filters_and_rules(steered: TestClient) -> None:
    assert ids(steered.get("/v1/popular", params={"n": 3})) == ["13", "11", "15"]
    assert ids(steered.get("/v1/popular", params={"category": ["noir"]})) == ["11", "15", "10"]
    wanted = json.dumps({"where": [{"field": "price", "op": "<=", "value": 2}]})
    assert ids(steered.get("/v1/popular", params={"filter": wanted})) == ["11", "10"]
    assert is_problem(steered.get("/v1/popular", params={"filter": "{"}), 422)
    # The fake ranks by row, and the item itself is not like itself.
    assert ids(steered.get("/v1/items/10/similar", params={"n": 2})) == ["11", "12"]
    assert is_problem(steered.get("/v1/items/99/similar"), 404)
    rule(steered, "no-13", kind="exclude", items=["13"])
    assert ids(steered.get("/v1/popular", params={"n": 2})) == ["11", "15"]


def test_latest_when_items_have_first_events_then_the_newest_come_first(steered: TestClient) -> None:
    steered.post("/v1/events", json=[event("a", "12", 500), event("b", "14", 900), event("c", "12", 950)])
    service = service_of(steered)
    service.releases.date_items(service.store.events.first_seen())
    # 14 was first seen at 900, 12 at 500; the others never: by popularity.
    assert ids(steered.get("/v1/latest", params={"n": 4})) == ["14", "12", "13", "11"]


def test_facets_when_asked_then_come_with_counts(client: TestClient) -> None:
    facets = client.get("/v1/facets").json()["facets"]
    assert [(one["words"], one["items"]) for one in facets] == [
        *(("night", 3), ("day", 3)),
        *(("crime", 2), ("love", 2), ("war", 2)),
    ]
    noir = client.get("/v1/facets", params={"category": "noir", "query": "crime"}).json()["facets"]
    assert noir == [{"codebook": 0, "code": 7, "words": "crime", "items": 2}]


def test_explain_when_an_item_is_outranked_then_says_by_what(client: TestClient) -> None:
    answer = client.post("/v1/explain", json={"history": [{"item_id": "10"}], "item_id": 13}).json()
    # Of 11 to 15, which the fake ranks by row, 13 is third.
    assert (answer["rank"], answer["of"], answer["barred_by"]) == (3, 5, [])
    assert [item["item_id"] for item in answer["outranked_by"]] == ["11", "12"]
    assert answer["path"]["words"] == "night > crime"


def test_explain_when_an_item_is_barred_then_says_by_what(steered: TestClient) -> None:
    rule(steered, "no-noir", kind="exclude", where={"category": "Noir"})
    steered.post("/v1/events", json=[event("a", "10")])
    body = {
        "user_id": "u",
        "item_id": "10",
        "exclude": ["10"],
        "filter": {"category": "Comedy"},
        "steer": {"avoid": ["crime"]},
    }
    answer = steered.post("/v1/explain", json=body).json()
    assert answer["barred_by"] == [
        *("it is in the history", "the user has it", "the request excludes it", "the filter"),
        *("steer.avoid 'crime'", "the rule no-noir@1"),
    ]
    assert answer["rank"] == 1
    assert is_problem(steered.post("/v1/explain", json={"history": [], "item_id": "99"}), 404)


def test_explain_when_no_model_answers_then_says_so(shop: Path) -> None:
    with opened(shop, None) as client:
        assert is_problem(client.post("/v1/explain", json={"history": [], "item_id": "10"}), 503)


def test_exploration_when_on_then_answers_and_log_hold_the_same_propensities(shop: Path) -> None:
    with opened(shop, Fake(), config={"explore_share": 0.5}) as client:
        answer = client.post("/v1/recommend", json={"history": [], "n": 4, "surface": "home"}).json()
        said = [item["propensity"] for item in answer["items"]]
        assert said[:2] == [1.0, 1.0]
        assert all(0 < one < 1 for one in said[2:])
        service = service_of(client)
        assert service.exposures.flush(10)
        shown = service.store.slates.get(answer["request_id"])
        assert shown is not None
        assert (list(shown.propensities), shown.surface) == (said, "home")
        assert shown.slate_propensity == pytest.approx(said[2] * said[3])
        assert shown.policy == "plackett-luce share=0.5 temperature=1"
        assert shown.model_version == answer["model_version"]


VALUES = st.sampled_from(["A", "b", "C", 1, 2.0, 4, True])
CONDITIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "field": st.just("price"),
            "op": st.sampled_from(["<", "<=", ">", ">="]),
            "value": st.sampled_from([1, 2.5, 4]),
        }
    ),
    st.fixed_dictionaries(
        {"field": st.sampled_from(["price", "brand"]), "op": st.sampled_from(["=", "not"]), "value": VALUES}
    ),
    st.fixed_dictionaries(
        {
            "field": st.just("brand"),
            "op": st.sampled_from(["in", "not in"]),
            "value": st.lists(VALUES, min_size=1, max_size=2),
        }
    ),
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sampled_from(["Film", "noir", "Comedy"]),
        "category_not": st.lists(st.sampled_from(["Noir", "comedy"]), max_size=1),
        "where": st.lists(CONDITIONS, max_size=2),
    },
)
FACET = st.sampled_from(sorted(FACETS.values())) | st.sampled_from([[0, 7], [1, 2]])
STEER = st.fixed_dictionaries(
    {}, optional={name: st.lists(FACET, max_size=2) for name in ("prefer", "require", "avoid")}
)
SOME = st.lists(st.sampled_from(IDS), min_size=1, max_size=2)
RULES = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["boost", "bury", "exclude"]), "items": SOME}),
    st.fixed_dictionaries({"kind": st.sampled_from(["boost", "bury", "exclude"]), "where": FILTERS}),
    st.fixed_dictionaries(
        {"kind": st.just("pin"), "items": st.sampled_from(IDS).map(lambda one: [one]), "position": st.integers(1, 6)}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("cap"), "by": st.sampled_from(["brand", "categories"]), "share": st.sampled_from([0, 0.5, 1])}
    ),
)


def meets(row: int, condition: dict[str, Any]) -> bool:
    """Tell in the plainest way whether an item meets a condition."""
    value: Any = {"price": PRICES, "brand": BRANDS}[condition["field"]][row]
    op, wanted = condition["op"], condition["value"]
    if op in ("<", "<=", ">", ">="):
        orders = {"<": lambda: value < wanted, "<=": lambda: value <= wanted, ">": lambda: value > wanted}
        return value is not None and bool(orders.get(op, lambda: value >= wanted)())
    among = wanted if isinstance(wanted, list) else [wanted]
    folded = [one.casefold() if isinstance(one, str) else one for one in among if not isinstance(one, bool)]
    has = value is not None and (value.casefold() if isinstance(value, str) else value) in folded
    return has if op in ("=", "in") else not has


def fulfils(row: int, wanted: dict[str, Any]) -> bool:
    own = {name.casefold() for name in CATEGORIES[row] or []}
    return (
        ("category" not in wanted or wanted["category"].casefold() in own)
        and not own & {name.casefold() for name in wanted.get("category_not", [])}
        and all(meets(row, condition) for condition in wanted.get("where", []))
    )


def has_facet(row: int, facet: Any) -> bool:
    codes = [code for code, words in FACETS.items() if words == facet] if isinstance(facet, str) else [tuple(facet)]
    return any(CODES_NM[row, book] == code for book, code in codes)


def may_be_shown(row: int, body: dict[str, Any], rules: list[dict[str, Any]]) -> bool:
    """Tell in the plainest way whether a request and the rules let an item be shown; caps aside."""
    steer = body.get("steer", {})
    item_id = IDS[row]
    return (
        item_id not in body["exclude"]
        and item_id not in [one["item_id"] for one in body["history"]]
        and fulfils(row, body.get("filter", {}))
        and all(has_facet(row, facet) for facet in steer.get("require", []))
        and not any(has_facet(row, facet) for facet in steer.get("avoid", []))
        and not any(
            one["kind"] == "exclude"
            and (item_id in one.get("items", []) or ("where" in one and fulfils(row, one["where"])))
            for one in rules
        )
    )


@pytest.fixture(scope="module")
def random_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    run = make_run(tmp_path_factory.mktemp("random") / "run")
    with opened(run, Fake(), keys=KEYS, config={"explore_share": 0.3}) as client:
        yield client


@given(
    body=st.fixed_dictionaries(
        {
            "n": st.integers(1, 8),
            "exclude": st.lists(st.sampled_from(IDS), max_size=2),
            "history": st.lists(st.sampled_from(IDS).map(lambda one: {"item_id": one}), max_size=2),
        },
        optional={"filter": FILTERS, "steer": STEER},
    ),
    rules=st.lists(RULES, max_size=3),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_recommend_when_rules_filters_and_steering_are_random_then_slates_are_legal_and_full(
    random_shop: TestClient, body: dict[str, Any], rules: list[dict[str, Any]]
) -> None:
    for place in range(3):
        put = rules[place] if place < len(rules) else {"kind": "exclude", "items": ["10"], "enabled": False}
        assert rule(random_shop, f"rule-{place}", **put).status_code == 200
    answer = random_shop.post("/v1/recommend", json=body)
    found = ids(answer)
    assert answer.json()["degraded"] is None
    allowed = {IDS[row] for row in range(len(IDS)) if may_be_shown(row, body, rules)}
    assert len(set(found)) == len(found)
    assert set(found) <= allowed
    caps = [one for one in rules if one["kind"] == "cap"]
    if not caps:
        assert len(found) == min(body["n"], len(allowed))
    for cap in caps:
        values = [(CATEGORIES if cap["by"] == "categories" else BRANDS)[IDS.index(one)] for one in found]
        flat = [part for value in values for part in (value if isinstance(value, list) else [value]) if part]
        most = int(cap["share"] * min(body["n"], len(allowed)) + 1e-9)
        assert all(flat.count(part) <= most for part in flat)
