"""Owns HTTP at the socket: heads are limited in size and time, and errors there are problem documents, too.

h11 reads the body of a request that offers an upgrade, as Java's client does to HTTP/2; other parsers drop it.
"""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.problems import MEDIA_TYPE


def limited_protocol(header_seconds: float) -> type[H11Protocol]:
    """Return the protocol class of a server whose clients have so long to send the head of a request."""

    class Limited(LimitedH11Protocol):
        seconds = header_seconds

    return Limited


class LimitedH11Protocol(H11Protocol):
    """uvicorn's protocol with a clock for heads: a connection that begins none, or ends none in time, is closed."""

    seconds = 5.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: the first head must come."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and see whether a head is whole, begun or not there."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_clock()
        elif self._head_clock is None and (self.cycle is None or self.cycle.response_complete):
            self._start_clock()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or a head over its limit, by a problem document, and close."""
        self._stop_clock()
        status = 400 if "Invalid" in msg else 431
        document = {
            "type": "urn:recsys:problem:bad-request",
            "title": "Bad Request",
            "status": status,
            "detail": "the request must be HTTP/1.1 with a head of moderate size, and was not; send such a request",
            "instance": "",
            "errors": [],
        }
        body = json.dumps(document).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _start_clock(self) -> None:
        self._head_clock = self.loop.call_later(self.seconds, self._too_slow)

    def _stop_clock(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None

    def _too_slow(self) -> None:
        self._head_clock = None
        if not self.transport.is_closing():
            self.transport.close()
