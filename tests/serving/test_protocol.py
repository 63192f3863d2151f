"""Heads at the socket, without one: whole, in parts, too long, with offers to upgrade, one behind the other."""

import asyncio
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from serving.early import EarlyRefusals
from serving.edge import Conditions
from serving.metrics import Metrics
from serving.protocol import limited_protocol
from serving.settings import Keys, ServingConfig

LIMIT = 200


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answer = scope["path"].encode() + b" " + body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


def answered(*parts: bytes, seconds: float = 5.0, refusals: EarlyRefusals | None = None) -> Wire:
    """Return what a connection got to these segments."""

    async def run() -> Wire:
        config = uvicorn.Config(echo, lifespan="off", ws="none", access_log=False, server_header=False)
        config.load()
        kind = limited_protocol(header_seconds=seconds, max_header_bytes=LIMIT, refusals=refusals)
        wire, protocol = Wire(), kind(config=config, server_state=ServerState(), app_state={})
        protocol.connection_made(wire)
        for part in parts:
            protocol.data_received(part)
            for _ in range(10):
                await asyncio.sleep(0)
            if wire.closed:
                break
        return wire

    return asyncio.run(run())


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST " + path.encode() + b" HTTP/1.1", b"Host: x", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


OFFER = (b"Connection: Upgrade, HTTP2-Settings", b"UPGRADE: h2c", b"HTTP2-Settings: AAEAAEAA")


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("offer", [(), OFFER])
def test_request_when_it_comes_in_parts_then_its_body_is_read(size: int, offer: tuple[bytes, ...]) -> None:
    raw = post("/a", b"one", *offer) + post("/b", b"two")
    wire = answered(*(raw[at : at + size] for at in range(0, len(raw), size)))
    assert wire.sent.count(b"HTTP/1.1 200 OK") == 2
    assert b"/a one" in wire.sent
    assert b"/b two" in wire.sent
    assert not wire.closed


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_head_when_it_is_over_its_limit_then_is_refused_wherever_it_begins(size: int) -> None:
    long = post("/long", b"", b"X-A: " + b"a" * LIMIT)
    for raw in (long, post("/a", b"one") + long):
        wire = answered(*(raw[at : at + size] for at in range(0, len(raw), size)))
        assert wire.closed
        assert b"/long" not in wire.sent
        assert b"HTTP/1.1 4" in wire.sent


def test_bytes_when_they_are_no_http_then_are_400_at_once() -> None:
    for raw in (b"\x16\x03\x01\x02", b"get it\r\n\r\n", b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n"):
        wire = answered(raw)
        assert wire.sent.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in wire.sent
        assert wire.closed


def test_connect_when_asked_then_nothing_is_read_behind_it() -> None:
    wire = answered(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", post("/a", b"one"))
    assert wire.closed
    assert b"/a one" not in wire.sent


def test_blank_lines_when_between_requests_then_are_passed_over() -> None:
    wire = answered(b"\r\n" + post("/a", b"one") + b"", b"\r\n\r\n", post("/b", b"two"))
    assert b"/a one" in wire.sent
    assert b"/b two" in wire.sent


@pytest.mark.parametrize("size", [0, 1, 3])
def test_slate_when_the_server_is_full_then_is_refused_and_the_connection_goes_on(size: int) -> None:
    full = [True, False]  # for the first request, and for the one behind it
    conditions = Conditions(draining=lambda: False, full=lambda: full.pop(0))
    refusals = EarlyRefusals(Metrics(), keys=Keys(), config=ServingConfig(), conditions=conditions)
    refused, next_one = post("/v1/recommend", b"one"), post("/v1/recommend", b"two")
    parts = refused[: len(refused) - size], refused[len(refused) - size :] + next_one
    wire = answered(*parts, refusals=refusals) if size else answered(refused, next_one, refusals=refusals)
    assert wire.sent.startswith(b"HTTP/1.1 429 ")
    assert wire.sent.count(b"HTTP/1.1 ") == 2
    assert wire.sent.endswith(b"/v1/recommend two")
    assert not wire.closed
