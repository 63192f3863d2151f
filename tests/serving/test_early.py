"""Refusals before a request is parsed: what they say, what of a body is skipped, and which requests go on."""

import json

import pytest

from serving.early import EarlyRefusals
from serving.edge import Conditions
from serving.metrics import Metrics
from serving.settings import Keys, ServingConfig

BODY = b'{"history": []}'
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(BODY)
REQUEST = HEAD + b"\r\n" + BODY


def refusals(*, full: bool = True, draining: bool = False, clients: tuple[str, ...] = ()) -> EarlyRefusals:
    return EarlyRefusals(
        Metrics(),
        keys=Keys(clients=clients),
        config=ServingConfig(max_body_bytes=1000),
        conditions=Conditions(draining=lambda: draining, full=lambda: full),
    )


def test_slate_when_the_server_is_full_then_is_refused_in_words_and_counted() -> None:
    metrics = Metrics()
    conditions = Conditions(draining=lambda: False, full=lambda: True)
    early = EarlyRefusals(metrics, keys=Keys(), config=ServingConfig(), conditions=conditions)
    refused = early.of(REQUEST)
    assert refused is not None
    assert refused.body_bytes == 0
    head, _, body = refused.rest.partition(b"\r\n\r\n")
    assert b"retry-after: 1" in head.lower()
    assert b"x-content-type-options: nosniff" in head
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body)["status"] == 429
    assert b'recsys_requests_total{route="/v1/recommend",status="429"} 1.0' in metrics.text()


@pytest.mark.parametrize("came", [0, 1, len(BODY)])
def test_slate_when_a_part_of_its_body_came_then_the_rest_is_to_be_skipped(came: int) -> None:
    refused = refusals().of(HEAD + b"Connection: keep-alive\r\n\r\n" + BODY[:came])
    assert refused is not None
    assert refused.body_bytes == len(BODY) - came


@pytest.mark.parametrize(
    "request_bytes",
    [
        REQUEST.replace(b"/v1/recommend", b"/v1/events"),
        REQUEST.replace(b"POST", b"GET"),
        REQUEST[: -len(BODY) - 2],  # the head is not whole
        REQUEST + b"POST /v1/recommend HTTP/1.1\r\n",  # another one is behind it
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + BODY,
        HEAD + b"Expect: 100-continue\r\n\r\n",
        HEAD + b"Connection: close\r\n\r\n" + BODY,
        HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n" + BODY,
        HEAD + b"Content-Length: 3\r\n\r\n" + BODY,
        REQUEST.replace(b"Length: 15", b"Length: -1"),
        REQUEST.replace(b"Length: 15", b"Length: 1001"),
        REQUEST.replace(b"Content-Length: 15\r\n", b""),
    ],
)
def test_request_when_it_is_not_a_plain_slate_then_is_parsed(request_bytes: bytes) -> None:
    assert refusals().of(request_bytes) is None


def test_slate_when_the_server_has_room_or_is_going_down_then_is_parsed() -> None:
    assert refusals(full=False).of(REQUEST) is None
    assert refusals(draining=True).of(REQUEST) is None


@pytest.mark.parametrize(
    ("key", "is_refused"), [(b"", False), (b"X-API-Key: b\r\n", False), (b"x-api-KEY: a\r\n", True)]
)
def test_slate_when_keys_are_set_then_only_who_has_one_is_told_that_the_server_is_full(
    key: bytes, is_refused: bool
) -> None:
    assert (refusals(clients=("a",)).of(HEAD + key + b"\r\n" + BODY) is not None) is is_refused
