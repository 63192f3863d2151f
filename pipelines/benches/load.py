"""Load on an HTTP server: a closed loop for its highest rate, an open loop of Poisson arrivals for its latency.

One thread, one poll of all connections, and no framework: a request costs the client some 30 microseconds, so that what
is measured is the server. Answers say how late the client itself sent them.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.core.arrays import Float64Array
from recsys.core.errors import RecsysError
from recsys.core.seeds import rng_for

_CONNECTIONS = 8
_PATIENCE_SECONDS = 60.0
_HEAD = (
    b"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


class LoadError(RecsysError):
    """A server under load does not answer, or answers what it must not."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer.

    ``due`` is when its request was to be sent, in seconds from the start; ``seconds`` go from then to the answer, and
    ``late`` is the part of them that passed before the client sent it.
    """

    status: int
    seconds: float
    due: float = 0.0
    late: float = 0.0


def closed_loop(port: int, bodies: Sequence[bytes]) -> float:
    """Send all bodies over a few connections, each as soon as its connection is free; return requests a second."""
    began = time.perf_counter()
    answers = _Client(port, bodies, connections=_CONNECTIONS).run(np.zeros(len(bodies)))
    seconds = time.perf_counter() - began
    if wrong := next((answer.status for answer in answers if answer.status != 200), None):
        raise LoadError(f"a server under a closed loop must answer 200, got {wrong}; see its log")
    return len(bodies) / seconds


def open_loop(port: int, bodies: Sequence[bytes], *, rate: float, seed: int) -> list[Answer]:
    """Send bodies at random moments, ``rate`` a second on average, whether or not earlier ones are answered."""
    return _Client(port, bodies).run(arrivals([(rate, len(bodies))], seed=seed))


def open_phases(
    port: int, bodies: Sequence[bytes], phases: Sequence[tuple[float, float]], *, seed: int
) -> list[Answer]:
    """Send bodies by turns, as :func:`open_loop` does, at one rate after the other: (requests a second, seconds)."""
    due_R = arrivals([(rate, round(rate * seconds)) for rate, seconds in phases], seed=seed)
    return _Client(port, [bodies[place % len(bodies)] for place in range(len(due_R))]).run(due_R)


def arrivals(phases: Sequence[tuple[float, int]], *, seed: int) -> Float64Array:
    """Return when requests are due, in seconds: so many at each rate, one phase after the other, with random gaps.

    Shape:
        return: (requests,).
    """
    rng = rng_for(seed, "arrivals")
    return np.cumsum(np.concatenate([rng.exponential(1 / rate, count) for rate, count in phases]))


class _Client:
    """Sends prepared bodies when they are due, over as many connections as that takes, or as there may be."""

    def __init__(self, port: int, bodies: Sequence[bytes], *, connections: int | None = None) -> None:
        self._port = port
        self._requests = [_HEAD % len(body) + body for body in bodies]
        self._room = len(bodies) if connections is None else connections
        self._poll = select.epoll()
        self._free: deque[_Connection] = deque()
        self._busy: dict[int, _Connection] = {}
        self._answers: list[Answer | None] = [None] * len(bodies)

    def run(self, due_R: Float64Array) -> list[Answer]:
        """Send everything and return the answers in the order of bodies.

        Shape:
            due_R: (requests,) seconds from now, ascending.
        """
        self._due, self._start = due_R.tolist(), time.perf_counter()
        waiting = deque(range(len(self._due)))
        last_answer = self._start
        try:
            while waiting or self._busy:
                now = time.perf_counter()
                while waiting and len(self._busy) < self._room and self._start + self._due[waiting[0]] <= now:
                    self._send(waiting.popleft())
                until = now + 1.0
                if waiting and len(self._busy) < self._room:
                    until = min(until, self._start + self._due[waiting[0]])
                if self._receive(max(0.0, until - time.perf_counter())) or not self._busy:
                    last_answer = time.perf_counter()
                if time.perf_counter() - last_answer > _PATIENCE_SECONDS:
                    raise LoadError(f"a server must answer within {_PATIENCE_SECONDS:g} seconds, and does not")
        finally:
            for connection in [*self._free, *self._busy.values()]:
                connection.wire.close()
            self._poll.close()
        return [answer for answer in self._answers if answer is not None]

    def _send(self, number: int) -> None:
        connection = self._free.pop() if self._free else self._open()
        connection.number, connection.sent, connection.tries = number, time.perf_counter(), 0
        self._busy[connection.wire.fileno()] = connection
        self._write(connection)

    def _open(self) -> "_Connection":
        wire = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE_SECONDS)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(wire.fileno(), select.EPOLLIN)
        return _Connection(wire)

    def _write(self, connection: "_Connection") -> None:
        try:
            connection.wire.sendall(self._requests[connection.number])
        except OSError:
            self._again(connection)

    def _again(self, connection: "_Connection") -> None:
        """Send a request over a new connection, once: the server had closed the kept one."""
        del self._busy[connection.wire.fileno()]
        connection.wire.close()
        if connection.tries:
            raise LoadError(f"a server must answer on a new connection to port {self._port}, and closes it")
        fresh = self._open()
        fresh.number, fresh.sent, fresh.tries = connection.number, connection.sent, 1
        self._busy[fresh.wire.fileno()] = fresh
        self._write(fresh)

    def _receive(self, seconds: float) -> bool:
        """Read what comes within so long and return whether anything came."""
        select.select([self._poll], [], [], seconds)  # epoll alone rounds up to whole milliseconds
        events = self._poll.poll(0)
        for number, _event in events:
            if (connection := self._busy.get(number)) is not None:
                self._read(connection)
            else:
                self._drop(number)
        return bool(events)

    def _read(self, connection: "_Connection") -> None:
        try:
            part = connection.wire.recv(1 << 16)
        except OSError:
            part = b""
        if not part:
            self._again(connection)
            return
        connection.came += part
        if (status := connection.status()) is None:
            return
        place, now = connection.number, time.perf_counter()
        due = self._due[place]
        self._answers[place] = Answer(
            status=status, seconds=now - self._start - due, due=due, late=connection.sent - self._start - due
        )
        connection.came = b""
        self._free.append(self._busy.pop(connection.wire.fileno()))

    def _drop(self, number: int) -> None:
        """Let go of an idle connection that the server closed."""
        for connection in self._free:
            if connection.wire.fileno() == number:
                connection.wire.close()
                self._free.remove(connection)
                return


class _Connection:
    """A connection, the request that it carries, and what came of its answer."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire
        self.came = b""
        self.number = self.tries = 0
        self.sent = 0.0

    def status(self) -> int | None:
        """Return the status of a whole answer, None of a part."""
        head, found, body = self.came.partition(b"\r\n\r\n")
        if not found:
            return None
        _, _, size = head.lower().partition(b"\r\ncontent-length:")
        if len(body) < int(size.partition(b"\r\n")[0]):
            return None
        return int(head[9:12])
