"""The application: its parts put together, started and drained."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI

from recsys.recommender.pointer import published_version
from serving.documents import RouteNames, install_documents, responses
from serving.early import EarlyRefusals
from serving.edge import Conditions, Edge
from serving.exposures import ExposureWriter
from serving.fallback import LastGoodAnswers
from serving.fast_path import FastPath
from serving.histories import Histories, StoreThreads
from serving.loop_queue import LoopQueue
from serving.metrics import Metrics
from serving.model import ModelThread
from serving.problems import install_problems
from serving.release import Loader, Release, State
from serving.releases import Releases
from serving.routes import router
from serving.seeding import seed_log
from serving.service import Service
from serving.settings import Keys, ServingConfig
from serving.shadow import Shadow
from serving.store import open_store
from serving.store.changes import ACTIVE_MODEL
from serving.store.engine import store_url
from serving.sync import Sync
from serving.tracing import Traced, Tracing, tracing_of

_EXPOSURE_SECONDS = 5.0


def create_app(
    run: Path,
    *,
    store: str | None = None,
    keys: Keys | None = None,
    config: ServingConfig | None = None,
    loader: Loader | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Return the application of a run; the model loads in the background once it starts.

    Args:
        run: the run folder; its bundle must hold items.parquet.
        store: SQLAlchemy URL of the store; None is the environment's, or SQLite in the run folder.
        keys: the keys clients and administrators must send; without client keys the API is open.
        config: limits and deadlines.
        loader: how a bundle folder becomes a model; None is the project's own.
        tracing: what makes spans; None is what the configuration says.

    Raises:
        StoreError: the store cannot be opened.
        ArtifactError: the run holds no items.
    """
    config = config or ServingConfig()
    service = build_service(run, store=store, config=config, loader=loader, tracing=tracing)
    app = FastAPI(
        title="recsys",
        version=version("recsys"),
        description="Recommendations by reasoning over item tokens.",
        lifespan=lambda _app: _running(service),
        responses=responses(),
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.route_names = route_names = RouteNames(app)
    app.include_router(router)
    install_problems(app)
    install_documents(app)
    app.add_middleware(FastPath, service=service)
    keys, conditions = keys or Keys(), Conditions(draining=lambda: service.draining, full=service.full)
    app.state.refusals = EarlyRefusals(service.metrics, keys=keys, config=config, conditions=conditions)
    app.add_middleware(
        Edge, metrics=service.metrics, keys=keys, config=config, route_of=route_names, conditions=conditions
    )
    if service.tracing.on:
        app.add_middleware(Traced, tracing=service.tracing, route_of=route_names)
    return app


@asynccontextmanager
async def _running(service: Service) -> AsyncIterator[None]:
    """Start what a server does beside requests; at the end, store what waits and let go of everything."""
    config, sync = service.config, Sync(service)
    sync.start()
    chosen = service.store.changes.setting(ACTIVE_MODEL) or published_version(service.releases.run)
    service.releases.start(version=chosen, second=config.split_version, shadow=config.shadow_version)
    yield
    service.draining = True
    sync.close()
    service.model.close()
    service.shadow.close()
    service.exposures.close(_EXPOSURE_SECONDS)
    service.threads.close()
    service.store.close()
    service.tracing.close()


def build_service(
    run: Path, *, store: str | None, config: ServingConfig, loader: Loader | None, tracing: Tracing | None = None
) -> Service:
    """Return the parts of a server; the run's log is in the store, the model is not loaded yet."""
    metrics = Metrics()

    def note(release: Release) -> None:
        metrics.model(release.version, ready=release.state is State.READY)

    releases = Releases(run, loader=loader, on_change=note, encoder_at_start=config.encoder_at_start)
    kept = open_store(store_url(run, store, os.environ), write_seconds=config.write_seconds)
    seed_log(run, kept)
    threads = StoreThreads()
    service = Service(
        config=config,
        releases=releases,
        model=ModelThread(deadline_seconds=config.deadline_seconds, waiting=config.max_in_flight),
        loop_queue=LoopQueue(deadline_seconds=config.deadline_seconds),
        store=kept,
        threads=threads,
        histories=Histories(
            kept.events,
            threads,
            limit=config.max_history,
            seconds=config.store_seconds,
            cached=config.cached_users,
            sole_writer=config.sole_writer and kept.engine.dialect.name == "sqlite",
        ),
        exposures=ExposureWriter(kept.slates, metrics, size=config.exposure_queue),
        last_good_answers=LastGoodAnswers(config.cached_users),
        shadow=Shadow(releases, metrics, config),
        metrics=metrics,
        tracing=tracing or tracing_of(config),
    )
    metrics.watch(
        "recsys_model_queue",
        "Requests that wait for the model",
        lambda: service.model.waiting() + service.loop_queue.waiting(),
    )
    metrics.watch("recsys_kept_users", "Users whose past is kept in memory", lambda: len(service.histories.users()))
    metrics.watch_total(
        "recsys_histories", "Pasts that were kept in memory, read, or not to be had", lambda: service.histories.asked
    )
    metrics.watch("recsys_shadow_queue", "Requests that wait for the shadow release", service.shadow.waiting)
    metrics.watch("recsys_exposure_queue", "Exposures that wait for the store", service.exposures.waiting)
    return service


def warm_up(app: FastAPI) -> None:
    """Do what would hold up a request, before the first: make the API's document, and look for garbage.

    The collector passes over all that is in memory now from then on: looking through a model takes it some .1 s.
    """
    app.state.route_names.read()
    gc.collect()
    gc.freeze()
