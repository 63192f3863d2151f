"""Health, metadata, metrics and the console page."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, JSONResponse

from serving.problems import ProblemError
from serving.release import State
from serving.routes.deps import ServiceDep
from serving.schemas.writes import Health, ModelMetadata

MODEL_NAME = "recsys"

router = APIRouter(tags=["operation"])


@router.get("/v2/health/live", response_model_exclude_none=True)
async def live() -> Health:
    """Say that the process answers."""
    return Health(live=True)


@router.get("/v2/health/ready", response_model=Health)
async def ready(service: ServiceDep) -> JSONResponse:
    """Say whether to send requests here: 503 while the first model loads and once the server goes down.

    A server whose model cannot be loaded is ready, answers from the fallback, and says so.
    """
    state = service.releases.current.state
    is_ready = state is not State.LOADING and not service.draining
    health = Health(
        live=True,
        ready=is_ready,
        degraded=None if state is State.READY else f"model_{state.value}",
        state="draining" if service.draining else state.value,
    )
    return JSONResponse(health.model_dump(), status_code=200 if is_ready else 503)


@router.get("/v2/models/{name}")
async def model_metadata(name: str, service: ServiceDep) -> ModelMetadata:
    """Describe the model."""
    if name != MODEL_NAME:
        raise ProblemError(404, f"the model must be {MODEL_NAME}, got another name; ask for /v2/models/{MODEL_NAME}")
    release = service.releases.current
    return ModelMetadata(
        name=MODEL_NAME,
        versions=[release.version],
        platform="recsys",
        inputs=[{"name": "history", "datatype": "BYTES", "shape": [-1]}],
        outputs=[
            {"name": "item_id", "datatype": "BYTES", "shape": [-1]},
            {"name": "score", "datatype": "FP32", "shape": [-1]},
        ],
        state=release.state.value,
    )


@router.get("/metrics", response_class=Response)
def metrics(service: ServiceDep) -> Response:
    """Return Prometheus's text."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", response_class=HTMLResponse)
def console() -> HTMLResponse:
    """Return the console page; the browser runs its own script and style and nothing else."""
    page, policy = _console()
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


@cache
def _console() -> tuple[str, str]:
    page = files("serving").joinpath("console/index.html").read_text(encoding="utf-8")
    allowed = {}
    for tag in ("script", "style"):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
        allowed[tag] = " ".join(f"'sha256-{hash_}'" for hash_ in hashes)
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; connect-src 'self'; "
        "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    return page, policy
