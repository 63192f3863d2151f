"""Owns load on an HTTP server: a closed loop for its highest rate, an open loop of Poisson arrivals for its latency."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.core.seeds import rng_for

_CONNECTIONS = 8


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer: its status, and the seconds from the moment its request was due."""

    status: int
    seconds: float


def closed_loop(port: int, bodies: Sequence[bytes]) -> float:
    """Send all bodies over a few connections, each as soon as its connection is free; return requests a second."""

    async def run() -> float:
        waiting = list(reversed(bodies))

        async def client() -> None:
            connection = await _Connection.open(port)
            while waiting:
                status = await connection.post(waiting.pop())
                if status != 200:
                    raise RuntimeError(f"a server under a closed loop must answer 200, got {status}; see its log")
            connection.close()

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(_CONNECTIONS)))
        return len(bodies) / (time.perf_counter() - began)

    return asyncio.run(run())


def open_loop(port: int, bodies: Sequence[bytes], *, rate: float, seed: int) -> list[Answer]:
    """Send bodies at random moments, ``rate`` a second on average, whether or not earlier ones are answered."""

    async def run() -> list[Answer]:
        gaps = rng_for(seed, "arrivals").exponential(1 / rate, len(bodies))
        due = time.perf_counter() + 0.05 + np.cumsum(gaps)
        free: list[_Connection] = []

        async def send(body: bytes, at: float) -> Answer:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            connection = free.pop() if free else await _Connection.open(port)
            status = await connection.post(body)
            seconds = time.perf_counter() - at
            free.append(connection)
            return Answer(status=status, seconds=seconds)

        answers = await asyncio.gather(*(send(body, at) for body, at in zip(bodies, due.tolist(), strict=True)))
        for connection in free:
            connection.close()
        return list(answers)

    return asyncio.run(run())


class _Connection:
    """A keep-alive connection that sends prepared bodies and reads no more of an answer than it must."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self._reader, self._writer, self._port = reader, writer, port

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        return cls(reader, writer, port)

    async def post(self, body: bytes) -> int:
        """Send a body and return the status of its answer; an idle connection that was closed is opened again, once."""
        try:
            return await self._exchange(body)
        except (EOFError, OSError):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            return await self._exchange(body)

    async def _exchange(self, body: bytes) -> int:
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        raw = await self._reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").lower().split("\r\n")
        size = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        await self._reader.readexactly(size)
        return int(lines[0].split(" ")[1])

    def close(self) -> None:
        self._writer.close()
