"""Logging and progress: bars on a terminal, plain log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

LOG = logging.getLogger("recsys")

_T = TypeVar("_T")
_LINE_EVERY_SECONDS = 15.0


def configure_logging(*, verbose: bool = False) -> None:
    """Send this project's log to standard error, once."""
    if LOG.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOG.propagate = False


def track(items: Iterable[_T], *, what: str, total: int, done: int = 0) -> Iterator[_T]:
    """Yield the items while showing progress: a bar on a terminal, otherwise a line every 15 seconds.

    ``total`` counts what was ``done`` before, too.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        console = Console(stderr=True)
        yield from rich_track(items, description=what, total=total, completed=done, console=console, transient=True)
        return
    last = time.monotonic()
    for place, item in enumerate(items, start=done + 1):
        yield item
        now = time.monotonic()
        if now - last >= _LINE_EVERY_SECONDS:
            LOG.info("%s: %d of %d", what, place, total)
            last = now
