"""What stands before the routes: keys, limits of bodies, slots, headers, and the metrics of what was refused."""

import asyncio
import json
import logging
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from recsys.core.errors import ConfigError
from recsys.core.telemetry import LOG, JsonLines, logging_to
from serving.edge import Conditions, Edge
from serving.metrics import Metrics
from serving.settings import Access, Keys, ServingConfig, keys_from
from tests.support.small_shop import Fake, is_problem, opened
from tests.support.small_shop import event as event_row


def edge_of(app: Any, *, full: bool = False, **settings: Any) -> Edge:
    return Edge(
        app,
        metrics=Metrics(),
        keys=Keys(),
        config=ServingConfig(**settings),
        route_of=lambda _scope: "other",
        conditions=Conditions(draining=lambda: False, full=lambda: full),
    )


async def answers(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def status_of(edge: Edge, receive: Receive, path: str = "/v1/recommend") -> int:
    """Send one POST and return the status of its answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    await edge(scope, receive, send)
    return int(sent[0]["status"])


def whole(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def never_ending(asked: asyncio.Event) -> Receive:
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"{", "more_body": True}
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    return receive


def test_slow_bodies_when_many_then_hold_no_slot_and_end_at_their_limit() -> None:
    async def run() -> None:
        edge = edge_of(answers, max_in_flight=1, body_seconds=0.3)
        asked = [asyncio.Event() for _ in range(70)]
        slow = [asyncio.create_task(status_of(edge, never_ending(event))) for event in asked]
        for event in asked:
            await event.wait()
        assert await status_of(edge, whole(b"{}")) == 200
        assert set(await asyncio.gather(*slow)) == {408}
        assert edge.in_flight() == 0

    asyncio.run(run())


def test_slots_when_all_taken_then_429_with_retry_after() -> None:
    async def run() -> None:
        inside, release = asyncio.Event(), asyncio.Event()

        async def waits(scope: Scope, receive: Receive, send: Send) -> None:
            inside.set()
            await release.wait()
            await answers(scope, receive, send)

        edge = edge_of(waits, max_in_flight=1)
        first = asyncio.create_task(status_of(edge, whole(b"{}")))
        await inside.wait()
        assert await status_of(edge, whole(b"{}")) == 429
        release.set()
        assert await first == 200

    asyncio.run(run())


def test_bodies_when_over_the_sum_of_all_then_429() -> None:
    async def run() -> None:
        edge = edge_of(answers, max_buffered_bytes=10)
        assert await status_of(edge, whole(b"x" * 11)) == 429
        assert await status_of(edge, whole(b"x" * 10)) == 200

    asyncio.run(run())


def test_answer_when_the_client_does_not_read_it_then_its_slot_is_freed() -> None:
    async def run() -> None:
        edge = edge_of(answers, body_seconds=0.2)

        async def stuck(_message: Message) -> None:
            await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await edge(scope, whole(b""), stuck)
        assert edge.in_flight() == 0

    asyncio.run(run())


@pytest.mark.parametrize(("path", "limit"), [("/v1/recommend", 1 << 20), ("/v1/events", 8 << 20)])
def test_body_when_over_the_limit_then_the_status_is_413_with_and_without_a_length(
    client: TestClient, path: str, limit: int
) -> None:
    assert is_problem(client.post(path, content=b" " * (limit + 1)), 413)
    assert is_problem(client.post(path, content=iter([b" " * limit, b" "])), 413)


def test_api_keys_when_set_then_all_but_health_is_refused_without_one(shop: Path) -> None:
    keys = Keys(clients=frozenset({"secret"}), admins=frozenset({"boss"}))
    with opened(shop, Fake(), keys=keys) as client:
        for key in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": b"\xe9"}):
            assert is_problem(client.post("/v1/recommend", json={"history": []}, headers=key), 401)
        assert is_problem(client.get("/metrics"), 401)
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        for key in ("secret", "boss"):
            assert client.get("/v1/models", headers={"X-API-Key": key}).status_code == 200
        assert is_problem(client.get("/v1/rules", headers={"X-API-Key": "secret"}), 403)
        assert client.get("/v1/rules", headers={"X-API-Key": "boss"}).status_code == 200


def test_administration_when_no_admin_key_is_set_then_is_refused(client: TestClient) -> None:
    assert is_problem(client.get("/v1/rules"), 403)
    assert is_problem(client.post("/v1/models/x/activate"), 403)


def test_keys_from_environment_when_written_with_blanks_or_in_a_file_then_are_stripped(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one\ntwo\n")
    keys = keys_from({"RECSYS_API_KEYS": " a , b,", "RECSYS_ADMIN_KEYS_FILE": str(file)})
    assert keys == Keys(clients=frozenset({"a", "b"}), admins=frozenset({"one", "two"}))
    assert [keys.access_of(key) for key in ("a", "two", "x")] == [Access.CLIENT, Access.ADMIN, Access.NOTHING]


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_keys_from_environment_when_set_but_empty_then_refuses_to_be_open(text: str) -> None:
    with pytest.raises(ConfigError, match="at least one key"):
        keys_from({"RECSYS_API_KEYS": text})


def test_metrics_when_a_request_is_refused_then_counts_it_under_its_route(client: TestClient) -> None:
    client.post("/v1/events", content=b" " * ((8 << 20) + 1))
    client.get("/v1/items/nope/similar")
    text = client.get("/metrics").text
    assert 'recsys_requests_total{route="/v1/events",status="413"} 1.0' in text
    assert 'recsys_requests_total{route="/v1/items/{item_id}/similar",status="404"} 1.0' in text
    assert "recsys_model_ready 1.0" in text


def test_answers_when_sent_then_carry_headers_of_safety(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert client.get("/v2/health/live").headers["x-content-type-options"] == "nosniff"
    assert is_problem(client.get("/docs"), 404)


def test_paths_when_unknown_then_answers_are_problem_documents(client: TestClient) -> None:
    calls: list[tuple[Callable[[], Any], int]] = [
        (lambda: client.get("/v1/nothing"), 404),
        (lambda: client.get("/v2/models/other"), 404),
        (lambda: client.get("/v1/recommend"), 405),
        (lambda: client.get("/v1/items", params={"limit": 0}), 422),
    ]
    for call, status in calls:
        assert is_problem(call(), status)


def test_slate_when_others_wait_too_long_then_is_429_before_its_body_and_other_calls_go_on() -> None:
    async def run() -> None:
        edge = edge_of(answers, full=True)
        assert await status_of(edge, never_ending(asyncio.Event())) == 429
        assert await status_of(edge, whole(b"[]"), path="/v1/events") == 200

    asyncio.run(run())


def test_request_id_when_sent_then_comes_back_else_one_is_made(client: TestClient) -> None:
    sent = client.get("/v1/nothing", headers={"X-Request-Id": "page-7/cart"})
    assert sent.headers["x-request-id"] == "page-7/cart"
    made = [client.get("/v2/health/live", headers=headers) for headers in ({}, {"X-Request-Id": "x" * 129})]
    assert len({answer.headers["x-request-id"] for answer in made}) == 2
    assert all(len(answer.headers["x-request-id"]) == 32 for answer in made)


def test_log_when_answers_are_logged_then_each_is_a_line_of_its_route_status_and_request(shop: Path) -> None:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    with logging_to(handler), opened(shop, Fake(), config={"log_requests": True}) as client:
        client.get("/v1/items/99", headers={"X-Request-Id": "mine"})
        LOG.warning("ordinary words")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (answered,) = (line for line in lines if line.get("request_id") == "mine")
    assert (answered["route"], answered["status"], answered["level"]) == ("/v1/items/{item_id}", 404, "info")
    assert any((line.get("message"), line["level"]) == ("ordinary words", "warning") for line in lines)


def test_page_keys_when_set_then_read_rank_and_send_events_and_change_nothing_else(shop: Path) -> None:
    keys = keys_from({"RECSYS_PAGE_KEYS": "page", "RECSYS_API_KEYS": "backend", "RECSYS_ADMIN_KEYS": "boss"})
    with opened(shop, Fake(), keys=keys) as client:
        page, backend, boss = ({"X-API-Key": key} for key in ("page", "backend", "boss"))
        assert client.post("/v1/recommend", json={"user_id": "u"}, headers=page).status_code == 200
        assert client.post("/v1/events", json=[event_row("a", "10")], headers=page).status_code == 202
        changes: list[tuple[str, str, Any]] = [
            ("PUT", "/v1/items", [{"item_id": "10"}]),
            ("DELETE", "/v1/items/10", None),
            ("DELETE", "/v1/users/u", None),
        ]
        for method, path, body in changes:
            assert is_problem(client.request(method, path, json=body, headers=page), 403)
            for own in (backend, boss):
                assert client.request(method, path, json=body, headers=own).status_code in (200, 204)
        assert is_problem(client.get("/v1/popular"), 401)
        assert is_problem(client.get("/v1/rules", headers=backend), 403)
    assert Keys(pages=frozenset({"page"})).access_of("") is Access.NOTHING  # a page's key alone closes the API
