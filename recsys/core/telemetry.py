"""Logging and progress: progress goes to a listener; without one it is written to the log."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar

LOG = logging.getLogger("recsys")

_T = TypeVar("_T")
_LINE_EVERY_SECONDS = 15.0
_HEARD_EVERY_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class WorkProgress:
    """How far some counted work is."""

    what: str
    done: int
    total: int


Listener = Callable[[WorkProgress], None]
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand the progress of all work inside the block to a listener, a few times a second."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the time, so that a display can take it over."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error as it is now."""
        return sys.stderr


def configure_logging(*, verbose: bool = False) -> None:
    """Send this project's log to standard error, once."""
    if LOG.handlers:
        return
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOG.propagate = False


class JsonLines(logging.Formatter):
    """A line of JSON a record: time, level and message, or the fields of a record that has some."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": at, "level": record.levelname.lower()}
        line |= getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_as_json() -> None:
    """Have every handler of this project's log write lines of JSON."""
    for handler in LOG.handlers:
        handler.setFormatter(JsonLines())


def log_fields(**fields: object) -> None:
    """Log an event as fields."""
    LOG.info("%s", json.dumps(fields), extra={"fields": fields})


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[None]:
    """Send this project's log to one handler alone while the block runs."""
    before: tuple[list[Any], int, bool] = (list(LOG.handlers), LOG.level, LOG.propagate)
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(before[1] or logging.INFO)
    try:
        yield
    finally:
        LOG.handlers, LOG.propagate = before[0], before[2]
        LOG.setLevel(before[1])


def track(items: Iterable[_T], *, what: str, total: int, done: int = 0) -> Iterator[_T]:
    """Yield the items and say how far they are: to the listener, without one in a log line every 15 seconds.

    ``total`` counts what was ``done`` before, too.
    """
    listener = _LISTENER.get()
    say, every = (listener, _HEARD_EVERY_SECONDS) if listener else (_log, _LINE_EVERY_SECONDS)
    last = time.monotonic()
    if listener:
        listener(WorkProgress(what=what, done=done, total=total))
    place = done
    for place, item in enumerate(items, start=done + 1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            say(WorkProgress(what=what, done=place, total=total))
            last = now
    if listener:
        listener(WorkProgress(what=what, done=place, total=total))


def _log(progress: WorkProgress) -> None:
    LOG.info("%s: %d of %d", progress.what, progress.done, progress.total)
