"""`recsys serve` as a process: started on a free port, waited for, ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

READY_SECONDS = 120
QUICK_END = {"not_ready_seconds": 0.2}
Process = subprocess.Popen[str]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    run: Path, port: int, *, config: Path | None = None, more: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Process:
    """Start `recsys serve` and return its process, whose standard error can be read."""
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "serve", str(run), "--port", str(port)]
    command += [] if config is None else ["--config", str(config)]
    return subprocess.Popen(
        [*command, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )


@contextmanager
def running(
    run: Path,
    *,
    settings: Mapping[str, Any] = QUICK_END,
    more: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    ready_seconds: float = READY_SECONDS,
) -> Iterator[tuple[httpx.Client, Process]]:
    """Serve a run, wait until it is ready, and end it."""
    port = free_port()
    with TemporaryDirectory() as folder:
        config = Path(folder) / "serving.toml"
        config.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        process = start(run, port, config=config, more=more, env=env)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                wait_until_ready(client, process, ready_seconds)
                yield client, process
        finally:
            process.terminate()
            process.communicate(timeout=max(60.0, ready_seconds))


@contextmanager
def served(run: Path) -> Iterator[httpx.Client]:
    """Serve a run and yield a client of it."""
    with running(run) as (client, _process):
        yield client


def wait_until_ready(client: httpx.Client, process: Process, seconds: float = READY_SECONDS) -> None:
    """Ask until the server is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended: {process.communicate()[1]}")
        try:
            if client.get("/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the server was not ready in time")
