"""Owns the paths of the HTTP API; what they do is in service.py."""

from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse

from serving.problems import ProblemError
from serving.replica import State
from serving.schemas import (
    EventRows,
    EventsResponse,
    Health,
    ItemsResponse,
    ModelMetadata,
    ModelsResponse,
    ModelStatus,
    RecommendRequest,
    RecommendResponse,
)
from serving.service import Service

MODEL_NAME = "recsys"

router = APIRouter()


def service_of(request: Request) -> Service:
    """Return the service of the application that got the request."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]


@router.post("/v1/recommend", response_model_exclude_unset=True)
def recommend(body: RecommendRequest, service: ServiceDep) -> RecommendResponse:
    """Rank items for a user or a history."""
    return service.recommend(body)


@router.post("/v1/events", status_code=202)
def add_events(body: EventRows, service: ServiceDep) -> EventsResponse:
    """Store events, each once, durably before the answer."""
    return service.add_events(body)


@router.get("/v1/items")
def search_items(
    service: ServiceDep,
    query: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ItemsResponse:
    """Find items by words of their title."""
    return ItemsResponse(items=service.search(query, limit))


@router.put("/v1/items")
def put_items() -> None:
    """Say that items cannot be added yet."""
    raise ProblemError(
        501, "adding items while serving is not built yet; run `recsys update` and start the server again"
    )


@router.get("/v1/models")
def list_models(service: ServiceDep) -> ModelsResponse:
    """Say what is loaded."""
    replica = service.replica
    status = ModelStatus(version=service.model_version, state=replica.state.value, reason=replica.reason)
    return ModelsResponse(models=[status])


@router.post("/v1/models/{version}/activate")
def activate_model(version: str) -> None:  # noqa: ARG001  (the path names it)
    """Say that models cannot be swapped yet."""
    raise ProblemError(
        501, "swapping models while serving is not built yet; run `recsys publish` and start the server again"
    )


@router.get("/v2/health/live", response_model_exclude_none=True)
def live() -> Health:
    """Say that the process answers."""
    return Health(live=True)


@router.get("/v2/health/ready")
def ready(service: ServiceDep) -> Health:
    """Say that requests are answered, and whether by the model; the fallback is there from the start."""
    state = service.replica.state
    degraded = None if state is State.READY else f"model_{state.value}"
    return Health(live=True, ready=True, degraded=degraded, state=state.value, reason=service.replica.reason)


@router.get("/v2/models/{name}")
def model_metadata(name: str, service: ServiceDep) -> ModelMetadata:
    """Describe the model."""
    if name != MODEL_NAME:
        raise ProblemError(404, f"the model must be {MODEL_NAME}, got another name; ask for /v2/models/{MODEL_NAME}")
    return ModelMetadata(
        name=MODEL_NAME,
        versions=[service.model_version],
        platform="recsys",
        inputs=[{"name": "history", "datatype": "BYTES", "shape": [-1]}],
        outputs=[
            {"name": "item_id", "datatype": "BYTES", "shape": [-1]},
            {"name": "score", "datatype": "FP32", "shape": [-1]},
        ],
        state=service.replica.state.value,
    )


@router.get("/metrics", response_class=Response)
def metrics(service: ServiceDep) -> Response:
    """Return Prometheus's text."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", response_class=HTMLResponse)
def console() -> HTMLResponse:
    """Return the console page."""
    return HTMLResponse(files("serving").joinpath("console/index.html").read_text(encoding="utf-8"))
