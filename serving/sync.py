"""A server's periodic work beside requests: it applies what other servers wrote, and deletes what is too old."""

import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from recsys.core.errors import RecsysError
from recsys.core.telemetry import LOG
from recsys.recommender.pointer import published_version
from serving.forgetting import forget_here
from serving.item_writes import refresh_items
from serving.memory import Trimmer
from serving.rules import read_rules
from serving.service import Service
from serving.store.changes import ACTIVE_MODEL
from serving.store.counters import FORGOTTEN, ITEMS, RULES

_DAY = 86_400
_EXPIRE_EVERY_SECONDS = 3600.0


class Sync:
    """Keeps a server's items, rules and release those of the store, and deletes the users whom others deleted.

    Releases have a thread of their own, because to load one takes seconds.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen: dict[str, int] = {}
        self._active: str | None = None
        self._published: str | None = None
        self._rounds = 0
        self._dated = False
        self._expired_at = 0.0
        self._trimmer = Trimmer()
        self._stop = threading.Event()

    def start(self) -> None:
        """Take over what the store holds, then go on in the background."""
        self.once()
        for name, step in (("recsys-sync", self._round), ("recsys-follow", self.follow)):
            threading.Thread(target=self._work, args=(step,), name=name, daemon=True).start()

    def close(self) -> None:
        """End after the current rounds."""
        self._stop.set()

    def once(self) -> None:
        """Take over whatever changed since the last round."""
        self.take_over()
        self.follow()

    def take_over(self) -> None:
        """Take over rules and items, and forget users."""
        service, changes = self._service, self._service.store.changes
        counters = changes.counters()
        if counters.get(RULES, 0) != self._seen.get(RULES, 0):
            service.rules = read_rules(changes.rules())
        if counters.get(ITEMS, 0) != self._seen.get(ITEMS, 0):
            refresh_items(service)
        if self._seen and counters.get(FORGOTTEN, 0) != self._seen.get(FORGOTTEN, 0):
            forget_here(service, service.store.events.forgotten_since(self._seen.get(FORGOTTEN, 0)))
        self._seen = counters

    def follow(self) -> None:
        """Activate what was activated at another server, or published."""
        activation = self._service.activation
        if activation.acquire(blocking=False):  # else an activation is under way here: next round
            try:
                self._follow_administrator()
                self._follow_pointer()
            finally:
                activation.release()

    def _follow_administrator(self) -> None:
        """Activate what an administrator chose at another server since the last round."""
        active = self._service.store.changes.setting(ACTIVE_MODEL)
        if active is not None and active != self._active and self._active is not None:
            self._activate(active)
        self._active = active or self._service.releases.current.version

    def _follow_pointer(self) -> None:
        """Activate what was published since the last round; what was published before the start is loaded there."""
        try:
            published = published_version(self._service.releases.run)
        except (RecsysError, OSError) as error:
            LOG.error("the published version cannot be read; the old one stays: %s", error)
            return
        if self._rounds and published is not None and published != self._published:
            self._activate(published)
        self._published = published
        self._rounds += 1

    def _activate(self, version: str) -> None:
        try:
            self._service.releases.activate(version)
        except (KeyError, RecsysError, OSError) as error:
            LOG.error("the active version %s cannot be loaded; the old one stays: %s", version, error)

    def _work(self, step: Callable[[], None]) -> None:
        away = False
        while not self._stop.wait(self._service.config.sync_seconds):
            try:
                step()
                away = False
            except SQLAlchemyError as error:
                if not away:
                    LOG.error("changes of other servers wait for the store: %s", getattr(error, "orig", error))
                away = True

    def _round(self) -> None:
        if not self._dated:
            self._dated = True
            self._service.releases.date_items(self._service.store.events.first_seen())
        self.take_over()
        self._trimmer.after(self._service.releases.current, now=time.monotonic())
        if time.monotonic() - self._expired_at > _EXPIRE_EVERY_SECONDS or not self._expired_at:
            self._expired_at = time.monotonic()
            self._expire()

    def _expire(self) -> None:
        config, store, now = self._service.config, self._service.store, int(time.time())
        if config.keep_exposures_days is not None:
            store.slates.expire(now - config.keep_exposures_days * _DAY)
        if config.keep_events_days is not None:
            store.events.expire(now - config.keep_events_days * _DAY)
