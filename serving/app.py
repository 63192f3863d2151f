"""Owns the application: its parts put together, started and drained."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI

from serving.edge import Edge
from serving.fallback import Fallback, read_items
from serving.metrics import Metrics
from serving.problems import MEDIA_TYPE, Problem, install_problems
from serving.replica import Loader, Replica
from serving.routes import router
from serving.service import Service
from serving.store import Store, default_url

DRAIN_SECONDS = 10
_PROBLEM_STATUSES = (401, 404, 413, 422, 429, 501, 503)


def create_app(
    run: Path,
    *,
    store_url: str | None = None,
    api_keys: frozenset[str] = frozenset(),
    loader: Loader | None = None,
    deadline_seconds: float = 2.0,
) -> FastAPI:
    """Return the application of a run; the model loads in the background once it starts.

    Args:
        run: the run folder; its bundle must hold items.parquet.
        store_url: SQLAlchemy URL of the event store; None is SQLite in the run folder.
        api_keys: the keys clients must send one of; none means open.
        loader: how a bundle folder becomes a model; None is the project's own.
        deadline_seconds: how long the model may take for one answer.
    """
    bundle = run / "bundle"
    items = read_items(bundle)
    service = Service(
        items=items,
        fallback=Fallback(items),
        replica=Replica(bundle, loader=loader, deadline_seconds=deadline_seconds),
        store=Store(store_url or default_url(run)),
        metrics=Metrics(),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.replica.start()
        yield
        service.replica.close()
        service.store.close()

    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    app = FastAPI(
        title="recsys",
        version=version("recsys"),
        lifespan=lifespan,
        responses={status: {"description": "a problem document", "content": content} for status in _PROBLEM_STATUSES},
    )
    app.state.service = service
    app.include_router(router)
    install_problems(app)
    app.add_middleware(Edge, metrics=service.metrics, api_keys=api_keys)
    return app


def serve(run: Path, host: str, port: int, store_url: str | None, api_keys: frozenset[str]) -> None:
    """Serve a run until SIGTERM or SIGINT; then finish what is in flight, for a while, and return."""
    import uvicorn

    app = create_app(run, store_url=store_url, api_keys=api_keys)
    uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=DRAIN_SECONDS, access_log=False)
