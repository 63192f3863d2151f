"""Writing exposures to the store: a bounded queue and one writer, beside the answers and never before them."""

import queue
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from recsys.core.telemetry import LOG
from serving.metrics import Metrics
from serving.store.slates import Exposure, SlateStore

_GROUP = 500
_PATIENCE_SECONDS = 0.05
_RETRY_SECONDS = 1.0


class ExposureWriter:
    """Writes exposures in groups; what does not fit into its queue is dropped and counted."""

    def __init__(self, slates: SlateStore, metrics: Metrics, *, size: int) -> None:
        self._slates = slates
        self._metrics = metrics
        self._queue: queue.Queue[Exposure] = queue.Queue(maxsize=size)
        self._closing = threading.Event()
        self._written = threading.Condition()
        self._added = self._done = 0
        self._thread = threading.Thread(target=self._work, name="recsys-exposures", daemon=True)
        self._thread.start()

    def add(self, exposure: Exposure) -> None:
        """Queue what one answer showed; never waits."""
        if self._closing.is_set():
            self._metrics.lost_exposures(1)
            return
        try:
            self._queue.put_nowait(exposure)
        except queue.Full:
            self._metrics.lost_exposures(1)
            return
        with self._written:
            self._added += 1

    def waiting(self) -> int:
        """Return how many exposures wait."""
        return self._queue.qsize()

    def flush(self, seconds: float) -> bool:
        """Wait until all that was queued before the call is written, and return whether it is."""
        with self._written:
            added = self._added
            return self._written.wait_for(lambda: self._done >= added, seconds)

    def close(self, seconds: float) -> None:
        """Write what is queued, for so long; what is left then is lost and counted."""
        self._closing.set()
        self._thread.join(seconds)
        if left := self._queue.qsize():
            LOG.error("%d exposures were not stored before the end", left)
            self._metrics.lost_exposures(left)

    def _work(self) -> None:
        while True:
            group = self._next_group()
            if group:
                self._write(group)
                with self._written:
                    self._done += len(group)
                    self._written.notify_all()
            elif self._closing.is_set():
                return

    def _next_group(self) -> list[Exposure]:
        """Return up to 500 exposures: whatever came within a moment, so that one sync to disk serves them all."""
        group: list[Exposure] = []
        try:
            group.append(self._queue.get(timeout=_PATIENCE_SECONDS))
            if not self._closing.is_set():
                self._closing.wait(_PATIENCE_SECONDS)
            while len(group) < _GROUP:
                group.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return group

    def _write(self, group: list[Exposure]) -> None:
        """Store a group; the store being away, try again until the server ends."""
        failed_at = 0.0
        while True:
            try:
                self._slates.add(group)
                return
            except SQLAlchemyError as error:
                if time.monotonic() - failed_at > 60:
                    LOG.error("exposures wait for the store: %s", getattr(error, "orig", error))
                    failed_at = time.monotonic()
            if self._closing.wait(_RETRY_SECONDS):
                try:
                    self._slates.add(group)
                except SQLAlchemyError:
                    LOG.error("%d exposures were not stored", len(group))
                    self._metrics.lost_exposures(len(group))
                return
