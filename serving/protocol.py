"""HTTP at the socket: heads are limited in size and time, and errors there are problem documents, too.

A head is handed to the parser when it is whole, without an offer to upgrade: Java's client offers HTTP/2 with its first
request, and the parser drops the body of a request that offers anything. Requests that a full server refuses are not
parsed at all.
"""

import asyncio
import json
import re
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.early import EarlyRefusals, Refused
from serving.problems import MEDIA_TYPE

_END = re.compile(rb"\r?\n\r?\n")
_UPGRADE = re.compile(rb"\nupgrade[ \t]*:", re.IGNORECASE)
_NO_UPGRADE = b"\nx-upgrade:"


def limited_protocol(
    *, header_seconds: float, max_header_bytes: int, refusals: EarlyRefusals | None = None
) -> type[HttpToolsProtocol]:
    """Return the protocol class of a server whose clients have so long, and so many bytes, for a request's head.

    Args:
        header_seconds: from the connection, or from the first byte of a later request.
        max_header_bytes: of a request's line and headers.
        refusals: what refuses requests that need not be parsed.
    """

    class Limited(LimitedProtocol):
        seconds = header_seconds
        max_bytes = max_header_bytes
        early = refusals

    return Limited


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits of heads: a connection that begins none, or ends none in time, is closed."""

    seconds = 5.0
    max_bytes = 16 << 10
    early: EarlyRefusals | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_clock: asyncio.TimerHandle | None = None
        self._begun = b""
        """What came of a head that is not whole; the parser has not seen it."""
        self._in_message = self._in_head = False
        self._parsed = 0
        """Bytes that the parser has seen of a head that began behind another request's body."""
        self._refused_bytes = 0
        """Bytes of a refused request's body that are still to come."""

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
        if self._refused_bytes:
            skipped = min(self._refused_bytes, len(data))
            self._refused_bytes -= skipped
            data = data[skipped:]
            if not data:
                return
        if self.early is not None and self._is_at_rest() and (refused := self.early.of(data)) is not None:
            self._answer(refused)
            return
        if not self._in_message:
            data = self._whole_head(data)
        elif self._in_head:
            self._parsed += len(data)
            if self._parsed > self.max_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
        before = self.cycle
        if data:
            super().data_received(data)
        if self.cycle is not before:
            self._stop_clock()
        elif self._head_clock is None and (self.cycle is None or self.cycle.response_complete):
            self._start_clock()

    def on_message_begin(self) -> None:
        """Note that the parser is in a head."""
        self._in_message = self._in_head = True
        self._parsed = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that the head is over."""
        self._in_head = False
        if sum(len(name) + len(value) for name, value in self.headers) > self.max_bytes:
            raise ValueError("a head that came whole behind another request is over its limit")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that a head comes next."""
        self._in_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (the parser's words tell clients nothing)
        """Answer what is no HTTP, or a head over its limit, by a problem document, and close."""
        self._refuse(HTTPStatus.BAD_REQUEST)

    def _unsupported_upgrade_warning(self) -> None:
        """Read nothing behind a request that leaves HTTP, such as CONNECT."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _is_at_rest(self) -> bool:
        """Tell whether nothing is read or answered, so that what comes now begins a request."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not (self._in_message or self._begun or self.flow.write_paused)

    def _answer(self, refused: Refused) -> None:
        """Send a refusal and keep the connection for the next request."""
        self._stop_clock()
        self._refused_bytes = refused.body_bytes
        own = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(STATUS_LINE[HTTPStatus.TOO_MANY_REQUESTS] + own + refused.rest)
        self.on_response_complete()

    def _whole_head(self, data: bytes) -> bytes:
        """Return what the parser may see now: a whole head and what follows, what can be no head, or nothing yet."""
        came = (self._begun + data).lstrip(b"\r\n")
        self._begun = b""
        if not came[:1].isalpha():
            return came
        found = _END.search(came)
        end = found.end() if found else len(came)
        if end > self.max_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return b""
        if not found:
            self._unset_keepalive_if_required()
            self._begun = came
            return b""
        if _UPGRADE.search(came, 0, end):
            return _UPGRADE.sub(_NO_UPGRADE, came[:end]) + came[end:]
        return came

    def _refuse(self, status: HTTPStatus) -> None:
        self._stop_clock()
        document: dict[str, object] = {
            "type": "urn:recsys:problem:bad-request",
            "title": "Bad Request",
            "status": status.value,
            "detail": "the request must be HTTP/1.1 with a head of moderate size, and was not; send such a request",
            "instance": "",
            "errors": [],
        }
        body = json.dumps(document).encode()
        head = b"content-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (MEDIA_TYPE.encode(), len(body))
        self.transport.write(STATUS_LINE[status] + head + body)
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
