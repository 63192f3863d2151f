"""Owns the OpenAPI document: the key as a security scheme, problem documents, rows that are checked one by one."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

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
