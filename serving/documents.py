"""The OpenAPI document: the key as a security scheme, problem documents, rows checked one by one; route names."""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import Scope

from serving.problems import MEDIA_TYPE, Problem
from serving.schemas.writes import EventIn, ItemIn

_SCHEME = "ApiKey"
_OPEN = ("/v2/health/", "/openapi.json")
_REF = "#/components/schemas/{model}"
PROBLEMS = {
    401: "no key of this server",
    404: "there is no such thing",
    408: "the body came too slowly",
    413: "the body is too large",
    422: "the request is malformed",
    429: "the server is full",
    503: "the store or the model is away",
}


def responses() -> dict[int | str, dict[str, Any]]:
    """Return what every operation may answer beside its own."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {status: {"description": why, "content": content} for status, why in PROBLEMS.items()}


def install_documents(app: FastAPI) -> None:
    """Have an application describe itself whole: every reference resolves, every operation names its key."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


class RouteNames:
    """Names the route of a request that no route has seen, by the paths of the API's document."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        self._plain: frozenset[str] = frozenset()

    def __call__(self, scope: Scope) -> str:
        """Return the path template of a request, "other" where there is none."""
        self.read()
        path: str = scope["path"]
        if path in self._plain:
            return path
        return next((template for pattern, template in self._patterns if pattern.fullmatch(path)), "other")

    def read(self) -> None:
        """Make the document and read it, unless that was done: it takes some .1 s."""
        if self._plain:
            return
        templates = list(self._app.openapi()["paths"])
        self._patterns = _patterns([template for template in templates if "{" in template])
        self._plain = frozenset(template for template in templates if "{" not in template)


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in (Problem, EventIn, ItemIn):
        schema = model.model_json_schema(ref_template=_REF)
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    components["securitySchemes"] = {_SCHEME: {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path == "/" or path.startswith(_OPEN) else [{_SCHEME: []}]
    return found


def _patterns(templates: Sequence[str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template))), template) for template in templates]
