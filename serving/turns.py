"""Owns brief calls of a model on the event loop: one a turn, so that sockets are read between two of them.

A ranking by compiled code takes less than handing it to a thread and back where both want the interpreter. Sockets are
read between turns, so requests that come meanwhile are refused or queued at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from recsys.core.telemetry import LOG
from serving.model import ModelUnavailableError, Refusal

_T = TypeVar("_T")
_NEWEST = 0.1
"""What the latest turn counts in the mean of their times."""


class Turns:
    """A queue of brief calls that the event loop runs itself.

    Args:
        deadline_seconds: how long a call may wait for its turn.
    """

    def __init__(self, *, deadline_seconds: float) -> None:
        self._deadline = deadline_seconds
        self._waiting: deque[tuple[asyncio.Future[Any], Callable[[], Any], float]] = deque()
        self._scheduled = False
        self._began = 0.0
        self._turn_seconds = 0.0

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
        """Return how many calls wait for their turn."""
        return len(self._waiting)

    def expected_wait(self) -> float:
        """Return the seconds that a call would wait now, by how long turns took lately, with all that came between."""
        return len(self._waiting) * self._turn_seconds

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        future, call, until = self._waiting.popleft()
        if not future.cancelled():
            _answer(future, call, until)
        now = time.monotonic()
        self._turn_seconds += _NEWEST * (now - self._began - self._turn_seconds)
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
