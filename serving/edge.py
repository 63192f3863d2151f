"""The steps before a route: the key, the body and its limits, the slots, the clock; and the headers after it."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.core.telemetry import log_fields
from serving.metrics import Metrics
from serving.problems import problem_response
from serving.settings import Access, Keys, ServingConfig

_HEALTH = "/v2/health/"
_OPEN_PATHS = frozenset({"/", "/openapi.json"})
_ROWS_PATHS = frozenset({"/v1/events", "/v1/items"})
SLATE_PATHS = frozenset({"/v1/recommend", "/v1/explain"})
WAITING = "too many requests wait for the model"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
_CLOSE = (b"connection", b"close")
_REQUEST_ID = b"x-request-id"
_PLAIN_ID = re.compile(rb"[!-~]{1,128}")


class _TooLargeError(Exception):
    """A body is over its limit."""


class _NoRoomError(Exception):
    """All bodies together are over their limit."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What is asked of the server at every request.

    ``draining`` tells whether it is going down, so that connections are closed with their next answer; ``full``
    whether a request for a slate would wait too long for those before it.
    """

    draining: Callable[[], bool]
    full: Callable[[], bool]


class Edge:
    """ASGI middleware around the whole application.

    Args:
        app: what answers.
        metrics: where answers are counted.
        keys: who may call.
        config: limits.
        route_of: the path template of a request, for the metrics of requests that no route saw.
        conditions: whether the server is full or draining.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        keys: Keys,
        config: ServingConfig,
        route_of: Callable[[Scope], str],
        conditions: Conditions,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = keys
        self._config = config
        self._route_of = route_of
        self._conditions = conditions
        self._in_flight = 0
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, request_id = 500, _request_id(scope)

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                extra = [*HEADERS, _CLOSE] if self._conditions.draining() else HEADERS
                message["headers"] = [*message.get("headers", ()), *extra, (_REQUEST_ID, request_id)]
            async with asyncio.timeout(self._config.body_seconds):
                await send(message)

        try:
            await self._guarded(scope, receive, send_and_note)
        except TimeoutError:
            status = 499  # the client does not read its answer
        finally:
            route = getattr(scope.get("route"), "path", None) or self._route_of(scope)
            seconds = time.perf_counter() - started
            self._metrics.answered(route=route, status=status, seconds=seconds)
            if self._config.log_requests:
                log_answer(route=route, status=status, seconds=seconds, request_id=request_id.decode())

    def in_flight(self) -> int:
        """Return how many requests are being answered."""
        return self._in_flight

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(_HEALTH):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._config.max_rows_bytes if path in _ROWS_PATHS else self._config.max_body_bytes
        refusal = self._refusal(headers, path, scope, limit)
        body = refusal or self._too_many(path) or await self._body(receive, path, limit)
        if isinstance(body, bytes) and (late := self._too_many(path)):
            body = late
        if not isinstance(body, bytes):
            await body(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, _replay(body, receive), send)
        finally:
            self._in_flight -= 1

    def _refusal(self, headers: Headers, path: str, scope: Scope, limit: int) -> JSONResponse | None:
        access = self._keys.access_of(headers.get("x-api-key", ""))
        scope.setdefault("state", {})["access"] = access
        if access is Access.NOTHING and path not in _OPEN_PATHS:
            came = "another one" if "x-api-key" in headers else "none"
            detail = f"the header X-API-Key must hold a key of this server, got {came}; send a valid key"
            return problem_response(401, detail, path=path, headers={"WWW-Authenticate": "ApiKey"})
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
            return _too_large(path, limit)
        return None

    def _too_many(self, path: str) -> JSONResponse | None:
        """Return the refusal of a request for which there is no room now: told before its body is read, and after."""
        if self._in_flight >= self._config.max_in_flight:
            return full_response(path, f"at most {self._config.max_in_flight} requests are answered at once")
        if path in SLATE_PATHS and self._conditions.full():
            return full_response(path, WAITING)
        return None

    async def _body(self, receive: Receive, path: str, limit: int) -> bytes | JSONResponse:
        """Return the whole body, or why it is refused; no slot is held while it comes."""
        try:
            async with asyncio.timeout(self._config.body_seconds):
                return await self._read(receive, limit)
        except TimeoutError:
            detail = f"a body must be sent within {self._config.body_seconds:g} seconds, and was not; send it faster"
            return problem_response(408, detail, path=path, headers={"Connection": "close"})
        except _TooLargeError:
            return _too_large(path, limit)
        except _NoRoomError:
            return full_response(path, "too many bodies are being received")

    async def _read(self, receive: Receive, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return b""
                part: bytes = message.get("body", b"")
                size += len(part)
                self._buffered += len(part)
                if size > limit:
                    raise _TooLargeError
                if self._buffered > self._config.max_buffered_bytes:
                    raise _NoRoomError
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._buffered -= size


def log_answer(*, route: str, status: int, seconds: float, request_id: str | None = None) -> None:
    """Log an answer as fields."""
    fields: dict[str, object] = {"route": route, "status": status, "ms": round(1000 * seconds, 2)}
    log_fields(**fields if request_id is None else fields | {"request_id": request_id})


def _request_id(scope: Scope) -> bytes:
    """Return the id that the client gave its request, or a new one where that is none to be sent back."""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID and _PLAIN_ID.fullmatch(value):
            found: bytes = value
            return found
    return uuid.uuid4().hex.encode()


def _too_large(path: str, limit: int) -> JSONResponse:
    detail = f"a body must be at most {limit} bytes here, got more; send it in smaller parts"
    return problem_response(413, detail, path=path, headers={"Connection": "close"})


@lru_cache(maxsize=64)
def full_response(path: str, what: str) -> JSONResponse:
    """Return the refusal of a request for which there is no room."""
    return problem_response(429, f"{what}; send this one again later", path=path, headers={"Retry-After": "1"})


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
