"""The fast path of a recommendation answers as FastAPI's routing does, and leaves to it what it cannot answer."""

import asyncio
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Scope

from serving.fast_path import PATH, FastPath
from tests.support.small_shop import service_of

ROUTED = "application/vnd.shop+json"
"""A type of JSON that the fast path leaves to FastAPI."""


@pytest.mark.parametrize(
    "body",
    [
        {"history": [{"item_id": "10"}], "n": 3},
        {"history": [{"item_id": 11, "timestamp": 5}, {"item_id": "nothing"}], "explain": True},
        {"user_id": 7, "filter": {"category_in": ["Comedy"]}, "steer": {"prefer": ["love"], "avoid": [[1, 3]]}},
        {"user_id": "7", "timeout_ms": 2000, "exclude": ["12", 13], "surface": "home"},
    ],
)
def test_recommend_when_asked_either_way_then_the_answers_are_equal(client: TestClient, body: dict[str, Any]) -> None:
    fast = client.post(PATH, json=body)
    routed = client.post(PATH, content=json.dumps(body), headers={"content-type": ROUTED})
    assert (fast.status_code, routed.status_code) == (200, 200)
    assert fast.headers["content-type"] == routed.headers["content-type"] == "application/json"
    assert list(fast.json()) == list(routed.json())
    assert {**fast.json(), "request_id": ""} == {**routed.json(), "request_id": ""}


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"n": 0}', b'{"filter": {"category_in": ["no such"]}}', b""])
def test_recommend_when_a_body_is_wrong_then_the_problem_is_the_routed_one(client: TestClient, body: bytes) -> None:
    fast = client.post(PATH, content=body, headers={"content-type": "application/json"})
    routed = client.post(PATH, content=body, headers={"content-type": ROUTED})
    assert fast.status_code == routed.status_code == 422
    assert fast.json() == routed.json()


def test_recommend_when_asked_either_way_then_metrics_count_one_route(client: TestClient) -> None:
    for kind in ("application/json", ROUTED):
        client.post(PATH, content=b'{"history": [], "n": 1}', headers={"content-type": kind})
    assert 'recsys_requests_total{route="/v1/recommend",status="200"} 2.0' in client.get("/metrics").text


def test_call_when_a_body_comes_in_parts_or_the_client_is_gone_then_the_routed_way_gets_it_whole(
    client: TestClient,
) -> None:
    scope: Scope = {
        "type": "http",
        "path": PATH,
        "method": "POST",
        "headers": [(b"content-type", b"application/json; charset=utf-8")],
    }
    for messages in (
        [{"type": "http.request", "body": b'{"n"', "more_body": True}, {"type": "http.request", "body": b": 1}"}],
        [{"type": "http.disconnect"}, {"type": "http.disconnect"}],
    ):
        coming, got = iter(messages), []

        async def routed(_scope: Scope, receive: Any, _send: Any, got: list[Message] = got) -> None:
            got += [await receive(), await receive()]

        async def receive(coming: Any = coming) -> Message:
            return next(coming)

        async def send(message: Message) -> None:
            raise AssertionError(message)

        asyncio.run(FastPath(routed, service=service_of(client))(scope, receive, send))
        assert got == messages
