"""Threads for work that may hang: bounded, with deadlines, never in the way of the process's end."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class PoolFullError(Exception):
    """All threads are busy and as many calls wait as may."""


class StoreLateError(Exception):
    """The store did not answer in time."""


class Pool:
    """Daemon threads that run calls; a call that hangs keeps one thread and nothing else.

    Args:
        name: of the threads.
        size: number of threads.
        waiting: calls that may wait for a thread; more raise :class:`PoolFullError`.
    """

    def __init__(self, name: str, *, size: int, waiting: int) -> None:
        self._calls: queue.Queue[tuple[Future[Any], Callable[[], Any]] | None] = queue.Queue(maxsize=waiting)
        self._size = size
        self._closed = False
        self._started: dict[int, float] = {}
        for number in range(size):
            threading.Thread(target=self._work, args=(number,), name=f"{name}-{number}", daemon=True).start()

    def submit(self, call: Callable[[], _T]) -> "Future[_T]":
        """Queue a call and return its future."""
        future: Future[_T] = Future()
        if self._closed:
            raise PoolFullError
        try:
            self._calls.put_nowait((future, call))
        except queue.Full as error:
            raise PoolFullError from error
        return future

    async def run(self, call: Callable[[], _T], seconds: float) -> _T:
        """Return what a call returns, without holding up the event loop.

        Raises:
            TimeoutError: it does not return within so many seconds; one that waits for a thread then is dropped.
            PoolFullError: no more calls may wait.
        """
        return await asyncio.wait_for(asyncio.wrap_future(self.submit(call)), seconds)

    def waiting(self) -> int:
        """Return how many calls wait for a thread."""
        return self._calls.qsize()

    def stuck(self, seconds: float) -> bool:
        """Tell whether every thread has been in one call for longer than this."""
        since = list(self._started.values())
        now = time.monotonic()
        return len(since) == self._size and all(now - started > seconds for started in since)

    def close(self) -> None:
        """Take no more calls, drop the waiting ones, and let the threads end when theirs have ended."""
        self._closed = True
        try:
            while True:
                entry = self._calls.get_nowait()
                if entry is not None:
                    entry[0].cancel()
        except queue.Empty:
            pass
        for _ in range(min(self._size, self._calls.maxsize)):
            self._calls.put_nowait(None)

    def _work(self, number: int) -> None:
        while not self._closed:
            entry = self._calls.get()
            if entry is None:
                return
            if entry[0].set_running_or_notify_cancel():
                self._started[number] = time.monotonic()
                _do(*entry)
                self._started.pop(number, None)
            del entry  # a waiting thread keeps neither the call nor what it returned: a body, a whole release


def _do(future: "Future[_T]", call: Callable[[], _T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        # Whoever waits for the future gets the error, as with any executor.
        future.set_exception(error)
