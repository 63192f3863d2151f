"""Calls of a fast model on the event loop: one an iteration, so that sockets are read between two of them.

A ranking by compiled code takes less than handing it to a thread and back where both want the interpreter. Sockets are
read between iterations, so requests that come meanwhile are refused or queued at once. uvloop accepts one connection an
iteration, so the next call waits while others are there to be accepted: else each would wait for as many rankings as
connections are before it.
"""

import asyncio
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from recsys.core.telemetry import LOG
from serving.model import ModelUnavailableError, Refusal

_T = TypeVar("_T")
_NEWEST = 0.1
"""Weight of the latest call in the moving mean of their times."""
_MOST_PASSES = 16
"""Iterations in a row that may be left to accepting connections."""


def arrivals_at(listener: socket.socket) -> Callable[[], bool]:
    """Return a function that tells whether connections wait to be accepted, without waiting itself."""
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    return lambda: bool(poll.poll(0))


class LoopQueue:
    """A queue of calls of a few milliseconds that the event loop runs itself, one an iteration.

    Args:
        deadline_seconds: how long a call may wait.

    Attributes:
        arrivals: tells whether connections wait to be accepted.
    """

    def __init__(self, *, deadline_seconds: float) -> None:
        self._deadline = deadline_seconds
        self.arrivals: Callable[[], bool] = lambda: False
        self._passes = 0
        self._waiting: deque[tuple[asyncio.Future[Any], Callable[[], Any], float]] = deque()
        self._scheduled = False
        self._began = 0.0
        self._call_seconds = 0.0

    async def run(self, call: Callable[[], _T], *, seconds: float | None = None) -> _T:
        """Return what a call to a model returns, or raise :class:`ModelUnavailableError`.

        Args:
            call: ends within a few milliseconds.
            seconds: a shorter deadline of this request.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        within = self._deadline if seconds is None else min(seconds, self._deadline)
        self._waiting.append((future, call, time.monotonic() + within))
        if not self._scheduled:
            self._scheduled = True
            self._began = time.monotonic()
            loop.call_soon(self._next, loop)
        return await future

    def waiting(self) -> int:
        """Return how many calls wait."""
        return len(self._waiting)

    def expected_wait(self) -> float:
        """Return the seconds that a call would wait now, by how long calls took lately, with all that came between."""
        return len(self._waiting) * self._call_seconds

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._passes < _MOST_PASSES and self.arrivals():
            self._passes += 1
            loop.call_soon(self._next, loop)
            return
        self._passes = 0
        future, call, until = self._waiting.popleft()
        if not future.cancelled():
            _answer(future, call, until)
        now = time.monotonic()
        self._call_seconds += _NEWEST * (now - self._began - self._call_seconds)
        self._began = now
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            loop.call_soon(self._next, loop)


def _answer(future: "asyncio.Future[Any]", call: Callable[[], Any], until: float) -> None:
    if time.monotonic() > until:
        future.set_exception(ModelUnavailableError(Refusal.LATE))
        return
    try:
        future.set_result(call())
    except Exception as error:
        # Whatever the model raises, the fallback answers.
        LOG.error("the model failed on a request", exc_info=error)
        future.set_exception(ModelUnavailableError(Refusal.ERROR))
