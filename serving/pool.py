"""Owns threads for work that may hang: bounded, with deadlines, never in the way of the process's end."""

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
            future, call = entry
            if not future.set_running_or_notify_cancel():
                continue
            self._started[number] = time.monotonic()
            try:
                future.set_result(call())
            except BaseException as error:
                # Whoever waits for the future gets the error, as with any executor.
                future.set_exception(error)
            finally:
                self._started.pop(number, None)
