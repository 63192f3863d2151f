"""Memory of a process: what is no longer needed is given back, what stays is left out of garbage collection."""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY_SECONDS = 30.0


class Trimmer:
    """Gives freed memory back after what a server keeps was replaced, at most every half a minute.

    A release of items that takes another's place frees tens of thousands of small objects between those that stay;
    glibc keeps their pages, and allocates new ones for the next.

    Args:
        trim: gives back what can be; None is glibc's ``malloc_trim``, or nothing on other systems.
    """

    def __init__(self, trim: Callable[[], object] | None = None) -> None:
        self._trim = trim or _of_glibc()
        self._kept: object = None
        self._trimmed_at = time.monotonic()

    def after(self, kept: object, *, now: float) -> None:
        """Give memory back if what is kept is another object than the last time.

        Args:
            kept: what the server keeps now.
            now: monotonic seconds.
        """
        if self._kept is None:
            self._kept = kept
        if kept is self._kept or now - self._trimmed_at < _EVERY_SECONDS:
            return
        self._kept, self._trimmed_at = kept, now
        self._trim()


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector away from a large import: what is in memory at its end, it passes over ever after.

    An import makes some 400,000 objects, which stay. The collector would look through them again and again while they
    come, and hold the interpreter for it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def _of_glibc() -> Callable[[], object]:
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    return lambda: found(0)
