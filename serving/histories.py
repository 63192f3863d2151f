"""The history of a request's user: read from the store under a deadline, cached where that is safe."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from recsys.core.telemetry import LOG
from serving.pool import Pool, PoolFullError, StoreLateError
from serving.store.events import EventStore, UserPast

_T = TypeVar("_T")
NOBODY = UserPast(events=(), seen=())
_THREADS, _WAITING = 8, 64


class StoreThreads:
    """The threads that talk to the store; when all of them hang, calls are refused at once."""

    def __init__(self) -> None:
        self._pool = Pool("recsys-store", size=_THREADS, waiting=_WAITING)

    async def run(self, call: Callable[[], _T], seconds: float) -> _T:
        """Return what a call returns, or raise :class:`StoreLateError`; database errors pass."""
        try:
            if self._pool.stuck(seconds):
                raise StoreLateError
            return await self._pool.run(call, seconds)
        except (TimeoutError, PoolFullError) as error:
            raise StoreLateError from error

    def close(self) -> None:
        """Take no more calls."""
        self._pool.close()


@dataclass(frozen=True, kw_only=True)
class KnownUser:
    """What a user did, and whether it may be old or nothing because the store could not be read."""

    past: UserPast
    stale: bool = False


class Histories:
    """Users' pasts, as external ids.

    Args:
        events: where they are stored.
        threads: that ask it.
        limit: events of a history.
        seconds: how long an answer waits.
        cached: users kept in memory; the least recently used make room.
        sole_writer: whether a cached past is current until :meth:`changed` is called; else the cache serves only
            while the store is away.
    """

    def __init__(
        self,
        events: EventStore,
        threads: StoreThreads,
        *,
        limit: int,
        seconds: float,
        cached: int,
        sole_writer: bool,
    ) -> None:
        self._events, self._threads = events, threads
        self._limit, self._seconds = limit, seconds
        self._cached, self._sole_writer = cached, sole_writer
        self._pasts: OrderedDict[str, UserPast] = OrderedDict()
        self._changed: set[str] = set()
        self._reading: Counter[str] = Counter()
        self._forgotten: set[str] = set()
        """Users forgotten while they are read: what is read of them is not kept."""
        self.asked: Counter[str] = Counter()
        """How often a past was there (``kept``), had to be read (``read``), or could not be (``away``)."""
        self._lock = threading.Lock()

    async def of(self, user_id: str, *, seconds: float | None = None) -> KnownUser:
        """Return what is known of a user; never waits longer than its deadline and never fails.

        Args:
            user_id: of the user.
            seconds: a shorter deadline of this request.
        """
        with self._lock:
            cached = self._pasts.get(user_id)
            if cached is not None:
                self._pasts.move_to_end(user_id)
            fresh = cached is not None and self._sole_writer and user_id not in self._changed
        if cached is not None and fresh:
            self.asked["kept"] += 1
            return KnownUser(past=cached)
        try:
            within = self._seconds if seconds is None else min(seconds, self._seconds)
            past = await self._threads.run(lambda: self._read(user_id), within)
            self.asked["read"] += 1
            return KnownUser(past=past)
        except StoreLateError:
            LOG.warning("the history of a user was not read in time")
        except SQLAlchemyError as error:
            LOG.warning("the history of a user could not be read: %s", getattr(error, "orig", error))
        self.asked["away"] += 1
        return KnownUser(past=cached or NOBODY, stale=True)

    def changed(self, user_ids: set[str]) -> None:
        """Say that events of these users were stored: what is cached of them is read again."""
        with self._lock:
            self._changed |= {user for user in user_ids if user in self._pasts or user in self._reading}

    def forget(self, user_id: str) -> None:
        """Drop what is kept of a user."""
        with self._lock:
            self._pasts.pop(user_id, None)
            self._changed.discard(user_id)
            if user_id in self._reading:
                self._forgotten.add(user_id)

    def users(self) -> list[str]:
        """Return the users of whom something is kept, or is being read."""
        with self._lock:
            return [*self._pasts, *self._reading]

    def _read(self, user_id: str) -> UserPast:
        with self._lock:
            self._changed.discard(user_id)
            self._reading[user_id] += 1
        past = None
        try:
            past = self._events.past(user_id, self._limit)
            return past
        finally:
            with self._lock:
                self._end_reading(user_id, past)

    def _end_reading(self, user_id: str, past: UserPast | None) -> None:
        """Keep what was read; a user whose event was stored meanwhile is marked, and read anew by the next request."""
        if past is not None and user_id not in self._forgotten:
            self._pasts[user_id] = past
            self._pasts.move_to_end(user_id)
            while len(self._pasts) > self._cached:
                dropped, _ = self._pasts.popitem(last=False)
                self._changed.discard(dropped)
        self._reading[user_id] -= 1
        if not self._reading[user_id]:
            del self._reading[user_id]
            self._forgotten.discard(user_id)
