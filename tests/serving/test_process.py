"""`recsys serve` as a process: its end, its sockets, its workers, and what it says when it cannot start."""

import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from serving.process import shorten_switch_interval
from tests.support.server import Process, free_port, running, start
from tests.support.small_shop import event, make_run

BODY = json.dumps({"history": [], "n": 2}).encode()


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model is refused before torch is loaded: the fallback answers within a second or two."""
    run = make_run(tmp_path_factory.mktemp("process") / "run")
    (run / "bundle" / "stray").write_text("x")
    return run


@pytest.fixture(scope="module")
def server(unsealed: Path) -> Iterator[httpx.Client]:
    with running(unsealed, settings={"not_ready_seconds": 0.2, "header_seconds": 1.5}) as (client, _process):
        yield client


def connect(client: httpx.Client) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30)
    return found


def exchange(client: httpx.Client, request: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes."""
    with connect(client) as wire:
        wire.sendall(request)
        parts = []
        while part := wire.recv(65536):
            parts.append(part)
    return b"".join(parts)


def post(*headers: str, body: bytes = BODY) -> bytes:
    lines = ["POST /v1/recommend HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def test_post_when_the_client_offers_http2_then_its_body_is_read(server: httpx.Client) -> None:
    # What Java's HttpClient sends first on a plain connection.
    offer = ("Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    answer = exchange(server, post(*offer))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"items":[{' in answer


def test_head_when_it_is_over_its_limit_then_is_refused_before_more_is_read(server: httpx.Client) -> None:
    with connect(server) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < 64 << 20:
                sent += wire.send(b"X-A: " + b"a" * 8000 + b"\r\n")
        except OSError:
            pass
    assert sent < 16 << 20


@pytest.mark.parametrize("begun", [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_connection_when_no_head_comes_in_time_then_is_closed(server: httpx.Client, begun: bytes) -> None:
    with connect(server) as wire:
        wire.sendall(begun)
        assert wire.recv(100) == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\x00" * 1000 + b"\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
)
def test_garbage_when_sent_raw_then_is_refused_and_the_server_lives(server: httpx.Client, garbage: bytes) -> None:
    answer = exchange(server, garbage)
    assert answer == b"" or answer.split(b" ")[1][:1] == b"4"
    assert server.get("/v2/health/live").status_code == 200


def test_sigterm_when_clients_keep_connections_then_none_loses_an_event_and_the_exit_is_0(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "bundle" / "stray").write_text("x")
    with running(run, settings={"not_ready_seconds": 2.0, "keep_alive_seconds": 1}) as (client, process):
        base = str(client.base_url)
        acknowledged: list[str] = []
        lost: list[str] = []
        begun = Event()

        def send(name: str) -> None:
            with httpx.Client(base_url=base, timeout=30) as own:
                for number in range(100_000):
                    id_ = f"{name}-{number}"
                    try:
                        answer = own.post("/v1/events", json=[event(id_, "10")])
                    except httpx.TransportError as error:
                        lost.append(f"{id_}: {error!r}")
                        return
                    assert answer.status_code == 202
                    acknowledged.append(id_)
                    begun.set()
                    if answer.headers.get("connection") == "close":
                        return  # told to go elsewhere

        threads = [Thread(target=send, args=(name,)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        assert begun.wait(30)
        process.send_signal(signal.SIGTERM)
        statuses = ready_statuses(base)
        for thread in threads:
            thread.join(60)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert lost == []
        assert 503 in statuses
    with running(run) as (client, _process):
        again = client.post("/v1/events", json=[event(id_, "10") for id_ in acknowledged[-10_000:]])
        assert again.json()["accepted"] == 0


def ready_statuses(base: str) -> list[int]:
    """Ask for readiness until nobody answers, and return the answers' statuses."""
    statuses = []
    while True:
        try:
            answer = httpx.get(f"{base}/v2/health/ready", timeout=30)
        except httpx.TransportError:
            return statuses
        statuses.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.headers["connection"] == "close"
        time.sleep(0.02)


def test_workers_when_an_item_is_taken_off_sale_then_every_worker_knows_soon(unsealed: Path) -> None:
    settings = {"not_ready_seconds": 0.2, "keep_alive_seconds": 1}
    with running(unsealed, settings=settings, more=["--workers", "2"]) as (client, process):
        base = str(client.base_url)
        assert client.delete("/v1/items/13").status_code == 204
        deadline = time.monotonic() + 60
        agreed = 0
        while agreed < 20:  # fresh connections reach both workers; 20 in a row agree
            answer = httpx.post(f"{base}/v1/recommend", json={"history": [], "n": 6}, timeout=30).json()
            shown = [item["item_id"] for item in answer["items"]]
            agreed = 0 if "13" in shown else agreed + 1
            assert time.monotonic() < deadline
        client.put("/v1/items", json=[{"item_id": "13"}])
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0


def ends(process: Process) -> tuple[int, str]:
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def test_start_when_the_store_is_away_then_says_so_in_one_line_without_its_password(unsealed: Path) -> None:
    url = "postgresql://someone:geheim@127.0.0.1:1/db"
    code, said = ends(start(unsealed, free_port(), more=["--store", url]))
    assert code == 1
    assert len(said.strip().splitlines()) == 1
    assert "reachable" in said
    assert "geheim" not in said


def test_start_when_the_port_is_taken_then_says_so_in_one_line(unsealed: Path, server: httpx.Client) -> None:
    code, said = ends(start(unsealed, server.base_url.port or 0))
    assert code == 2
    assert len(said.strip().splitlines()) == 1
    assert "--port" in said


def test_start_when_keys_are_set_but_empty_then_refuses_to_be_open(unsealed: Path) -> None:
    code, said = ends(start(unsealed, free_port(), env={"RECSYS_API_KEYS": ","}))
    assert code == 2
    assert "at least one key" in said


def test_start_when_a_setting_is_wrong_then_names_it(unsealed: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("max_in_flight = 0\nmistake = 1\n")
    code, said = ends(start(unsealed, free_port(), config=config))
    assert code == 2
    assert "max_in_flight" in said
    assert "mistake" in said


def test_shorten_switch_interval_when_called_then_a_waiting_thread_gets_the_interpreter_sooner() -> None:
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(0.005)  # Python's own; a server that ran in this process may have changed it
        shorten_switch_interval()
        assert sys.getswitchinterval() <= 0.001
    finally:
        sys.setswitchinterval(before)
