"""A server that a bench starts: two releases of a run, a store of its own, an administrator's key."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipelines.benches.serve import BenchError
from recsys.core.seeds import rng_for
from recsys.data.prepare import Prepared, load_prepared
from recsys.recommender.manifest import read_manifest, write_manifest

READY_SECONDS = 300.0
HISTORY = 20
_KEY = "bench"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server under load; ``versions`` are releases that it can swap between, the first one is current."""

    port: int
    pid: int
    versions: tuple[str, ...] = ()

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call the server as its administrator and return status and answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-API-Key": _KEY}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=READY_SECONDS) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read() or b"null")


@contextmanager
def one_server(run: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Target]:
    """Serve a copy of a run's bundle, with a second release of the same model beside it, until the block ends.

    Args:
        run: the run.
        settings: of the server, by name.

    Raises:
        BenchError: the server does not become ready.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        versions = _two_releases(run, copy)
        config = Path(folder) / "serving.toml"
        chosen = {"not_ready_seconds": 0.0} | dict(settings or {})
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in chosen.items()))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        command = [sys.executable, "-c", "from pipelines.cli import main; main()", "serve", str(copy)]
        environment = {**os.environ, "RECSYS_ADMIN_KEYS": _KEY, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, "--port", str(port), "--config", str(config)], env=environment, stderr=subprocess.DEVNULL
        )
        target = Target(port=port, pid=process.pid, versions=versions)
        try:
            _wait(target, process)
            yield target
        finally:
            process.terminate()
            process.wait()


def request_bodies(prepared: Prepared, count: int) -> list[bytes]:
    """Return requests of random users of a log, by turns with the history sent along and by their id."""
    rng = rng_for(0, "bench", "requests")
    ids = prepared.items["item_id"].to_pylist()
    bodies = []
    for number, user in enumerate(rng.integers(prepared.log.num_users, size=count).tolist()):
        history = prepared.log.history(user).last(HISTORY)
        pairs = zip(history.items.tolist(), history.timestamps.tolist(), strict=True)
        events = [{"item_id": ids[row], "timestamp": at} for row, at in pairs]
        who = {"history": events} if number % 2 else {"user_id": str(prepared.user_ids[user])}
        bodies.append(json.dumps(who | {"n": 10}).encode())
    return bodies


def milliseconds(seconds: list[float], share: float) -> float:
    """Return a percentile in milliseconds, NaN of none."""
    return float(np.percentile(seconds, share) * 1000) if seconds else float("nan")


def load_run(run: Path) -> Prepared:
    """Return the log of a run."""
    return load_prepared(run / "data")


def _two_releases(run: Path, copy: Path) -> tuple[str, str]:
    """Copy a run's bundle, and again with other counts of popularity, so that it is another version."""
    shutil.copytree(run / "bundle", copy / "bundle")
    shutil.copytree(run / "data", copy / "data")
    second = copy / "releases" / "second"
    shutil.copytree(run / "bundle", second)
    counts = json.loads((second / "popularity.json").read_text())
    (second / "popularity.json").write_text(json.dumps(counts | {"counts": [1 + one for one in counts["counts"]]}))
    first = read_manifest(copy / "bundle")
    return first.model_version, write_manifest(second, kept=first.kept, validation=first.validation).model_version


def _wait(target: Target, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if target.call("GET", "/v2/health/ready")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise BenchError(
        f"the server must be ready within {READY_SECONDS:g} seconds, and is not; start it alone to see why"
    )
