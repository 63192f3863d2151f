"""The fast path of recommendations: a valid POST /v1/recommend is answered without FastAPI's routing.

A request that is not valid, or that fails, goes on to FastAPI, which answers it with a problem document. The route
stays in the API's document; both paths call one function.
"""

from dataclasses import dataclass

from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.recommending import recommend
from serving.schemas.recommend import RecommendRequest
from serving.service import Service

PATH = "/v1/recommend"
_JSON = b"application/json"


@dataclass(frozen=True, kw_only=True)
class MatchedRoute:
    """The one field of a matched route that metrics read."""

    path: str


_ROUTE = MatchedRoute(path=PATH)


class FastPath:
    """ASGI middleware inside the edge, which hands it a whole body as one message.

    Args:
        app: FastAPI's own handling of requests.
        service: what answers.
    """

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a recommendation, or pass the call on as it came."""
        if not _is_ours(scope):
            await self._app(scope, receive, send)
            return
        message = await receive()
        answer = await self._answer(message)
        if answer is None:
            await self._app(scope, _after(message, receive), send)
            return
        scope["route"] = _ROUTE
        headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", _JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, message: Message) -> bytes | None:
        """Return the answer as JSON, or None where FastAPI must say what is wrong."""
        if message["type"] != "http.request" or message.get("more_body", False):
            return None
        try:
            request = RecommendRequest.model_validate_json(message.get("body", b""))
        except ValidationError:
            return None
        try:
            response = await recommend(self._service, request)
        except Exception:
            # Nothing was stored yet: FastAPI fails in the same way, and answers and logs it.
            return None
        return response.model_dump_json(exclude_unset=True).encode()


def _is_ours(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
        return False
    return any(name == b"content-type" and value.startswith(_JSON) for name, value in scope["headers"])


def _after(message: Message, receive: Receive) -> Receive:
    """Return a receive function that begins with a message again."""
    waiting = [message]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
