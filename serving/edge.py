"""Owns what comes before a route: the key, the body limit, the queue limit, and the clock."""

import hmac
import time

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics
from serving.problems import problem_response

MAX_BODY_BYTES = 1 << 20
MAX_IN_FLIGHT = 64
_HEALTH = "/v2/health/"
_OPEN_PATHS = frozenset({"/"})


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, api_keys: frozenset[str], max_in_flight: int = MAX_IN_FLIGHT
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = [key.encode() for key in api_keys]
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self._guarded(scope, receive, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(route=route, status=status, seconds=time.perf_counter() - started)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(_HEALTH):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope), path)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._in_flight += 1
        try:
            body = await _read_body(receive)
            if body is None:
                await _too_large(path)(scope, receive, send)
            else:
                await self._app(scope, _replay(body, receive), send)
        finally:
            self._in_flight -= 1

    def _refusal(self, headers: Headers, path: str) -> JSONResponse | None:
        if self._keys and path not in _OPEN_PATHS and not self._knows(headers.get("x-api-key", "")):
            came = "another one" if "x-api-key" in headers else "none"
            detail = f"the header X-API-Key must hold a key of this server, got {came}; send a valid key"
            return problem_response(401, detail, path=path, headers={"WWW-Authenticate": "ApiKey"})
        if self._in_flight >= self._max_in_flight:
            detail = f"at most {self._max_in_flight} requests are answered at once; send this one again later"
            return problem_response(429, detail, path=path, headers={"Retry-After": "1"})
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > MAX_BODY_BYTES):
            return _too_large(path)
        return None

    def _knows(self, key: str) -> bool:
        came = key.encode("latin-1", "replace")
        return any([hmac.compare_digest(came, known) for known in self._keys])


def _too_large(path: str) -> JSONResponse:
    detail = f"a body must be at most {MAX_BODY_BYTES} bytes, got more; send it in smaller parts"
    return problem_response(413, detail, path=path, headers={"Connection": "close"})


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None once it is over the limit, whatever its headers said."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
