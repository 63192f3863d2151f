"""The client that loads servers: every body is sent once and answered, over kept and over closed connections."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from pipelines.benches.load import LoadError, arrivals, closed_loop, open_phases

Statuses = dict[bytes, int]


@contextmanager
def server(statuses: Statuses, got: list[bytes], *, per_connection: int = 1000) -> Iterator[int]:
    """Answer bodies by status, in two parts, and close a connection after so many answers."""

    def talk(wire: socket.socket) -> None:
        with wire, wire.makefile("rb") as lines:
            for _ in range(per_connection):
                size = 0
                while (line := lines.readline()) not in (b"\r\n", b""):
                    size = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else size
                if line == b"":
                    return
                body = lines.read(size)
                got.append(body)
                wire.sendall(b"HTTP/1.1 %d X\r\nContent-Le" % statuses.get(body, 200))
                wire.sendall(b"ngth: 2\r\n\r\nok")

    def accept() -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(wire,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("per_connection", [1, 3, 1000])
def test_load_when_a_server_closes_connections_then_every_body_is_answered_once(per_connection: int) -> None:
    bodies = [b"%d" % number for number in range(60)]
    got: list[bytes] = []
    with server({}, got, per_connection=per_connection) as port:
        assert closed_loop(port, bodies) > 0
    assert sorted(got) == sorted(bodies)


def test_load_when_open_then_answers_come_in_the_order_of_bodies_with_their_statuses() -> None:
    got: list[bytes] = []
    with server({b"b": 429}, got) as port:
        answers = open_phases(port, [b"a", b"b"], [(2000, 0.01), (500, 0.02)], seed=1)
    assert [answer.status for answer in answers] == [200, 429] * 15
    assert all(0 <= answer.late <= answer.seconds for answer in answers)
    assert (np.diff([answer.due for answer in answers]) > 0).all()


def test_load_when_a_closed_loop_is_refused_then_says_so() -> None:
    with server({b"no": 503}, []) as port, pytest.raises(LoadError, match="503"):
        closed_loop(port, [b"yes", b"no"])


def test_arrivals_when_in_phases_then_gaps_follow_the_rates() -> None:
    due_R = arrivals([(10.0, 2000), (1000.0, 2000)], seed=3)
    # 2,000 exponential gaps of mean .1 and of mean .001 s: their means are within 10 % with near certainty
    assert np.diff(due_R[:2000]).mean() == pytest.approx(0.1, rel=0.1)
    assert np.diff(due_R[2000:]).mean() == pytest.approx(0.001, rel=0.1)
