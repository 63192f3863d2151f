"""Bench serve: the HTTP service of a run beside a trivial service that ranks by dot products, in turns."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipelines.benches.dot_product import ITEMS, WIDTH
from pipelines.benches.load import Answer, closed_loop, open_loop, open_phases
from pipelines.benches.measure import Line, beside
from recsys.core.errors import RecsysError
from recsys.core.seeds import rng_for
from recsys.data.prepare import Prepared, load_prepared

PEER = "FastAPI dot product"
ROUNDS, REQUESTS, HISTORY, PEER_WIDTH = 5, 400, 20, 64
LIGHT, OVERLOAD = 0.3, 2.0
"""Open-loop rates, as shares of the highest rate that the closed loop reached."""
SAMPLES, REPEATS = 1200, 4
"""Requests whose 99th percentile is taken, and how often each body is sent for it at most."""
CALM_SECONDS, HEAVY_SECONDS, IN_A_ROW = 4.0, 5.0, 10
WHOLE = {"ranked": "catalogue"}
"""What a request holds to have all items ranked instead of what paths reach."""
_READY_SECONDS = 120.0


class BenchError(RecsysError):
    """A server that is to be measured does not answer."""


def bench_serve(run: Path, *, requests: int = REQUESTS, rounds: int = ROUNDS) -> list[Line]:
    """Measure a run's service with histories sent along and with known users, and the peer with the histories.

    A run with token experts is measured on what it serves, and on the whole catalogue ranked without paths as well. The
    peer has as many items and no store, no model, no checks. Lines of milliseconds a request are one over the
    highest rate, so that the ratio is the share of the peer's rate.
    """
    prepared = load_prepared(run / "data")
    given, users = _bodies(prepared, requests)
    rows = _rows(prepared, requests)
    bodies_of = {"history sent": given, "known user": users}
    if (run / "bundle" / "tokens").is_dir():
        bodies_of["history sent, catalogue ranked"] = [json.dumps(json.loads(body) | WHOLE).encode() for body in given]
    with TemporaryDirectory() as folder, _servers(run, Path(folder), prepared.log.num_items) as (ours, peer):
        for port, bodies in (*((ours, bodies) for bodies in bodies_of.values()), (peer, rows)):
            closed_loop(port, bodies[:50])
        rates: dict[str, list[float]] = {what: [] for what in (*bodies_of, PEER)}
        for _ in range(rounds):
            for what, bodies in bodies_of.items():
                rates[what].append(closed_loop(ours, bodies))
            rates[PEER].append(closed_loop(peer, rows))
        lines = [
            beside(
                f"ms a request at full load, {what}", _each(rates[what]), _each(rates[PEER]), peer_name=PEER, unit="ms"
            )
            for what in bodies_of
        ]
        highest, theirs = float(np.median(rates["history sent"])), float(np.median(rates[PEER]))
        lines += _light(ours, given, LIGHT * highest, (peer, rows, LIGHT * theirs))
        return [*lines, *_overload(ours, given, highest)]


def _light(port: int, bodies: list[bytes], rate: float, peer: tuple[int, list[bytes], float]) -> list[Line]:
    """Return latencies of an open loop that leaves both servers idle most of the time."""
    light, light_peer = (
        open_loop(at, (own * REPEATS)[:SAMPLES], rate=each, seed=1) for at, own, each in ((port, bodies, rate), peer)
    )
    lines = []
    for share in (50, 99):
        mine, other = _percentile(light, share), _percentile(light_peer, share)
        what = f"p{share} at {LIGHT:.0%} of the highest rate"
        lines.append(Line(what=what, ours=mine, peer=other, peer_name=PEER, ratio=other / mine, unit="ms"))
    return lines


def _overload(port: int, bodies: list[bytes], highest: float) -> list[Line]:
    """Return what becomes of requests while they come at twice the highest rate, and how soon all is well again."""
    light, heavy = LIGHT * highest, OVERLOAD * highest
    answers = open_phases(port, bodies, [(light, CALM_SECONDS), (heavy, HEAVY_SECONDS), (light, CALM_SECONDS)], seed=2)
    calm, over = round(light * CALM_SECONDS), round(heavy * HEAVY_SECONDS)
    before, during, after = answers[:calm], answers[calm : calm + over], answers[calm + over :]
    accepted = [answer for answer in during if answer.status == 200]
    refused = [answer for answer in during if answer.status == 429]
    normal = _percentile(before, 99)
    lines = [Line(what=f"p99 before {OVERLOAD:g}x overload, {LIGHT:.0%} of the highest rate", ours=normal, unit="ms")]
    for name, group in (("accepted", accepted), ("refused", refused)):
        for share in (50, 99) if group else ():
            lines.append(Line(what=f"p{share} of {name} at overload", ours=_percentile(group, share), unit="ms"))
    lines.append(Line(what="share answered then", ours=len(accepted) / len(during), unit="share"))
    late = float(np.percentile([answer.late for answer in during], 99) * 1000)
    lines.append(Line(what="p99 of the client's own delay then", ours=late, unit="ms"))
    recovery = _recovery(after, during[-1].due, normal / 1000)
    lines.append(Line(what=f"until {IN_A_ROW} answers in a row are within that p99", ours=recovery, unit="s"))
    return lines


def _recovery(after: list[Answer], ended: float, normal: float) -> float:
    """Return how long after the overload the first of some answers in a row was due that are as fast as before it."""
    row: list[Answer] = []
    for answer in after:
        row = [*row, answer] if answer.status == 200 and answer.seconds <= normal else []
        if len(row) == IN_A_ROW:
            return row[0].due - ended
    return float("nan")


def _bodies(prepared: Prepared, requests: int) -> tuple[list[bytes], list[bytes]]:
    rng = rng_for(0, "bench", "serve")
    users = rng.integers(prepared.log.num_users, size=requests).tolist()
    ids = prepared.items["item_id"].to_pylist()
    given = []
    for user in users:
        history = prepared.log.history(user).last(HISTORY)
        events = [
            {"item_id": ids[row], "timestamp": at}
            for row, at in zip(history.items.tolist(), history.timestamps.tolist(), strict=True)
        ]
        given.append(json.dumps({"history": events, "n": 10}).encode())
    known = [json.dumps({"user_id": str(prepared.user_ids[user]), "n": 10}).encode() for user in users]
    return given, known


def _rows(prepared: Prepared, requests: int) -> list[bytes]:
    rng = rng_for(0, "bench", "serve")
    users = rng.integers(prepared.log.num_users, size=requests).tolist()
    histories = [prepared.log.history(user).last(HISTORY).items.tolist() for user in users]
    return [json.dumps({"history": [{"item_id": row} for row in rows], "n": 10}).encode() for rows in histories]


def _each(rates: list[float]) -> list[float]:
    return [1000 / rate for rate in rates]


def _percentile(answers: list[Answer], share: float) -> float:
    return float(np.percentile([answer.seconds for answer in answers], share) * 1000) if answers else float("nan")


@contextmanager
def _servers(run: Path, folder: Path, items: int) -> Iterator[tuple[int, int]]:
    """Start both servers on free ports, wait until both answer, and end them."""
    ours, peer = _free_port(), _free_port()
    config = folder / "serving.toml"
    config.write_text("not_ready_seconds = 0.0\nencoder_at_start = false\n")
    store = f"sqlite:///{folder / 'store.db'}"
    recsys = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    dot_product = [sys.executable, "-m", "uvicorn", "--factory", "pipelines.benches.dot_product:make_app"]
    commands = [
        [*recsys, "serve", str(run), "--port", str(ours), "--store", store, "--config", str(config)],
        [*dot_product, "--port", str(peer), "--no-access-log", "--log-level", "warning"],
    ]
    environment = {**os.environ, ITEMS: str(items), WIDTH: str(PEER_WIDTH), "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in commands]
    try:
        _wait(f"http://127.0.0.1:{ours}/v2/health/ready", started[0])
        _wait(f"http://127.0.0.1:{peer}/openapi.json", started[1])
        yield ours, peer
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise BenchError(f"{url} must answer within {_READY_SECONDS:g} seconds, and does not; start it alone to see why")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
