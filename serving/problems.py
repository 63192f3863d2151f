"""The body of a call that cannot be answered: RFC 9457 problem documents."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from recsys.core.telemetry import LOG
from serving.pool import StoreLateError

MEDIA_TYPE = "application/problem+json"
_SHOWN = 120
"""Characters of what came that are sent back."""
_SHOWN_DEPTH = 200
"""Characters of text, or members of a list, that are looked at for it."""


class Fault(BaseModel):
    """One thing wrong with a request."""

    where: str
    wanted: str
    came: str
    change: str


class Problem(BaseModel):
    """An RFC 9457 problem document; ``errors`` lists every fault that was found."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Fault] = Field(default_factory=list)


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self, status: int, detail: str, *, faults: Sequence[Fault] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = list(faults)
        self.retry_after = retry_after


def problem_response(
    status: int,
    detail: str,
    *,
    path: str,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the problem document as a response."""
    title = HTTPStatus(status).phrase
    document = Problem(
        type=f"urn:recsys:problem:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=_plain(detail),
        instance=_plain(path),
        errors=list(faults),
    )
    return JSONResponse(document.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def shown(value: object) -> str:
    """Return a short ASCII picture of whatever came, safe to send back."""
    if isinstance(value, str):
        value = value[:_SHOWN_DEPTH]
    elif isinstance(value, list | dict) and len(value) > _SHOWN_DEPTH:
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = ascii(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def faults_of(errors: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Return pydantic's errors as faults."""
    return [_fault(error) for error in errors[:20]]


def install_problems(app: FastAPI) -> None:
    """Make every error of ``app`` a problem document."""
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(SQLAlchemyError, _on_store)
    app.add_exception_handler(StoreLateError, _on_store)
    app.add_exception_handler(Exception, _on_bug)


def _plain(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _fault(error: Mapping[str, Any]) -> Fault:
    where = ".".join(_plain(str(part)) for part in error.get("loc", ())) or "body"
    wanted = _plain(str(error.get("msg", "a valid value")))
    if error.get("type") == "json_invalid":
        came = shown(error.get("ctx", {}).get("error", "something else"))
        return Fault(where=where, wanted="valid JSON", came=came, change="send a JSON document encoded as UTF-8")
    if error.get("type") == "extra_forbidden":
        came = shown(error.get("input"))
        return Fault(
            where=where,
            wanted="a known field",
            came=shown(error.get("input")),
            change="remove or rename this field",
        )
    change = "add this field" if error.get("type") == "missing" else "change this value to what is wanted"
    return Fault(where=where, wanted=wanted, came=shown(error.get("input")), change=change)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = faults_of(error.errors())
    detail = f"the request has {len(error.errors())} fault(s); `errors` lists them with what to change"
    return problem_response(422, detail, path=request.url.path, faults=faults)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    # FastAPI answers 400 where a body cannot be read at all; this API has one status for malformed bodies.
    status = 422 if error.status_code == 400 else error.status_code
    advice = {
        404: f"the path must be one of this API's, got {request.url.path}; see /openapi.json",
        405: f"the method must be one this path has, got {request.method}; see /openapi.json",
        422: "the body must be JSON encoded as UTF-8, of moderate depth and number size; send such a body",
    }
    detail = advice.get(status, str(error.detail))
    return problem_response(status, detail, path=request.url.path, headers=error.headers)


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem_response(error.status, error.detail, path=request.url.path, faults=error.faults, headers=headers)


async def _on_store(request: Request, error: Exception) -> JSONResponse:
    LOG.error("the store failed: %s", getattr(error, "orig", None) or repr(error))
    wanted = "answer in time, and did not" if isinstance(error, StoreLateError) else "be reachable, and is not"
    detail = f"the store must {wanted}; send the same request again: what is there already is not doubled"
    return problem_response(503, detail, path=request.url.path, headers={"Retry-After": "1"})


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    LOG.error("unexpected error at %s", request.url.path, exc_info=error)
    return problem_response(500, "the server failed; its log says why", path=request.url.path)
