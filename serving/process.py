"""The server as a process: its socket, its workers, and its end."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import uvicorn

from recsys.core.errors import CallError, RecsysError
from recsys.core.telemetry import LOG, configure_logging, log_as_json
from serving.app import create_app, warm_up
from serving.loop_queue import arrivals_at
from serving.protocol import limited_protocol
from serving.seeding import seed_store
from serving.service import Service
from serving.settings import Keys, ServingConfig
from serving.store.engine import store_url

_RESTART_SECONDS = 1.0
_SWITCH_SECONDS = 0.0005
"""How long one thread keeps the interpreter from those that wait for it; Python's own 5 ms add up, because a request
waits at each of its steps for a thread that loads a release or imports torch."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a server is started with."""

    run: Path
    host: str
    port: int
    store: str | None
    keys: Keys
    config: ServingConfig
    workers: int = 1


def serve(options: Options) -> None:
    """Serve a run until SIGTERM or SIGINT; then answer a while as not ready, finish what is in flight, and return.

    Raises:
        CallError: the address cannot be listened on.
        StoreError, ArtifactError: the store or the bundle cannot be used.
    """
    listener = _listen(options.host, options.port)
    if options.workers == 1:
        _serve_here(options, listener)
    else:
        _supervise(options, listener)


class DrainingServer(uvicorn.Server):
    """uvicorn's server with a phase in which it answers, says that it is not ready, and closes connections."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (a signal handler's call)
        """Begin to drain; a second signal, or Ctrl-C, ends the phase at once."""
        if self._service.draining or sig == signal.SIGINT:
            self._service.draining = True
            self.should_exit = True
            return
        self._service.draining = True
        LOG.info("draining for %g seconds", self._service.config.not_ready_seconds)
        threading.Thread(target=self._exit_later, daemon=True).start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving; a drained server ends with exit code 0, not by the signal."""
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _exit_later(self) -> None:
        time.sleep(self._service.config.not_ready_seconds)
        self.should_exit = True


def shorten_switch_interval() -> None:
    """Have the interpreter switch threads every half a millisecond, so that answers wait little for other threads."""
    sys.setswitchinterval(_SWITCH_SECONDS)


def _serve_here(options: Options, listener: socket.socket) -> None:
    shorten_switch_interval()
    if options.config.log_json:
        log_as_json()
    app = create_app(options.run, store=options.store, keys=options.keys, config=options.config)
    service: Service = app.state.service
    service.releases.on_loaded = partial(warm_up, app)
    service.loop_queue.arrivals = arrivals_at(listener)
    config = options.config
    server = DrainingServer(
        uvicorn.Config(
            app,
            http=limited_protocol(
                header_seconds=config.header_seconds,
                max_header_bytes=config.max_header_bytes,
                refusals=None if service.tracing.on else app.state.refusals,
            ),
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            backlog=2048,
            timeout_keep_alive=config.keep_alive_seconds,
            timeout_graceful_shutdown=config.drain_seconds,
        ),
        service,
    )
    host, port = listener.getsockname()[:2]
    LOG.info("serving %s at http://%s:%d (process %d)", options.run, host, port, os.getpid())
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        raise CallError(
            f"the server must be able to listen on {host} port {port}, got {error}; choose a free --port, or --host"
        ) from error
    listener.set_inheritable(True)
    return listener


def _supervise(options: Options, listener: socket.socket) -> None:
    """Run workers that share the socket and the store; one that dies is replaced, SIGTERM drains all."""
    context = multiprocessing.get_context("spawn")
    config = options.config.model_copy(update={"sole_writer": False})
    options = replace(options, config=config)
    seed_store(options.run, store_url(options.run, options.store, os.environ))
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ending.set())

    def start() -> BaseProcess:
        worker = context.Process(target=_work, args=(options, listener))
        worker.start()
        return worker

    workers = [start() for _ in range(options.workers)]
    while not ending.wait(_RESTART_SECONDS):
        for place, worker in enumerate(workers):
            if not worker.is_alive():
                LOG.error("a worker ended with code %s and is replaced", worker.exitcode)
                workers[place] = start()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


def _work(options: Options, listener: socket.socket) -> None:
    """Be one worker."""
    configure_logging()
    try:
        _serve_here(options, listener)
    except RecsysError as error:
        LOG.error("recsys: %s", error)
        raise SystemExit(error.exit_code) from error
