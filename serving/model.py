"""The model at run time: one thread, called under a deadline, every slate checked on the way out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from recsys.contracts import History, Recommender, Request, Slate
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.telemetry import LOG
from serving.pool import Pool, PoolFullError
from serving.release import LoadedBundle, Release, State

_T = TypeVar("_T")
_NEWEST = 0.1
"""Weight of the latest call in the moving mean of their times."""


class Refusal(StrEnum):
    """Why the model gave no (full) answer; the values are what clients and metrics read."""

    LOADING = "model_loading"
    FAILED = "model_failed"
    LATE = "model_late"
    ERROR = "model_error"
    ILLEGAL = "model_illegal_items"
    SHORT = "model_too_few_items"
    HISTORY = "history_unavailable"


class ModelUnavailableError(Exception):
    """The model did not answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


def model_of(release: Release) -> LoadedBundle:
    """Return the model of a release, or raise :class:`ModelUnavailableError`."""
    if release.model is None:
        raise ModelUnavailableError(Refusal.FAILED if release.state is State.FAILED else Refusal.LOADING)
    return release.model


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A slate without illegal items, and how many were taken out."""

    slate: Slate
    illegal: int


class ModelThread:
    """The one thread that models run on."""

    def __init__(self, *, deadline_seconds: float, waiting: int) -> None:
        self._deadline = deadline_seconds
        self._pool = Pool("recsys-model", size=1, waiting=waiting)
        self._call_seconds = 0.0

    async def run(self, call: Callable[[], _T], *, seconds: float | None = None) -> _T:
        """Return what a call to a model returns, or raise :class:`ModelUnavailableError`.

        Args:
            call: runs on the model's thread.
            seconds: a shorter deadline of this request.
        """
        if self._pool.stuck(self._deadline):
            # The thread is stuck in an earlier call: waiting would only add to the queue.
            raise ModelUnavailableError(Refusal.LATE)
        try:
            within = self._deadline if seconds is None else min(seconds, self._deadline)
            return await self._pool.run(lambda: self._timed(call), within)
        except (TimeoutError, PoolFullError) as error:
            raise ModelUnavailableError(Refusal.LATE) from error
        except Exception as error:
            LOG.error("the model failed on a request", exc_info=error)
            raise ModelUnavailableError(Refusal.ERROR) from error

    def waiting(self) -> int:
        """Return how many calls wait for the thread."""
        return self._pool.waiting()

    def expected_wait(self) -> float:
        """Return the seconds that a call would wait now, by how long calls took lately."""
        return self._pool.waiting() * self._call_seconds

    def stuck(self, seconds: float) -> bool:
        """Tell whether the thread has been in one call for longer than this."""
        return self._pool.stuck(seconds)

    def close(self) -> None:
        """Take no more calls and drop the waiting ones."""
        self._pool.close()

    def _timed(self, call: Callable[[], _T]) -> _T:
        began = time.monotonic()
        try:
            return call()
        finally:
            self._call_seconds += _NEWEST * (time.monotonic() - began - self._call_seconds)


@dataclass(kw_only=True)
class ModelRanker:
    """One history's ranking by a model; counts what the model should not have returned."""

    recommender: Recommender
    history: History
    whole_catalogue: bool | None = None
    """Whether all items are ranked instead of what paths reach; None as the run says."""
    illegal: int = 0

    def rank(self, masks: Sequence[BoolArray], n: int) -> list[Slate]:
        """Return the best ``n`` items under each mask, checked.

        Shape:
            masks: one (items,) mask a slate, True where an item may be shown.
        """
        slates = ask(self.recommender, self.history, masks, n, whole_catalogue=self.whole_catalogue)
        found = [check_slate(slate, n=n, eligible_N=mask) for slate, mask in zip(slates, masks, strict=True)]
        self.illegal += sum(checked.illegal for checked in found)
        return [checked.slate for checked in found]


def ask(
    recommender: Recommender,
    history: History,
    masks: Sequence[BoolArray],
    n: int,
    *,
    whole_catalogue: bool | None = None,
) -> list[Slate]:
    """Ask a recommender for one history under several masks, which already bar what the user has."""
    return recommender.recommend(
        [
            Request(history=history, n=n, eligible_N=mask, keep_seen=True, whole_catalogue=whole_catalogue)
            for mask in masks
        ]
    )


def check_slate(slate: Slate, *, n: int, eligible_N: BoolArray) -> Checked:
    """Take out what must never be shown: unknown, ineligible, repeated items, scores that are no numbers.

    Shape:
        eligible_N: (items,) True where an item may be shown.
    """
    items, scores = slate.items, slate.scores
    if _sound(items, scores, n=n, eligible_N=eligible_N):
        return Checked(slate=slate, illegal=0)
    known = (items >= 0) & (items < len(eligible_N))
    legal = known & np.isfinite(scores)
    legal[known] &= eligible_N[items[known]]
    _, first = np.unique(items[legal], return_index=True)
    kept = np.flatnonzero(legal)[np.sort(first)]
    illegal = len(items) - len(kept)
    kept = kept[:n]
    paths = tuple(slate.paths[place] for place in kept.tolist()) if slate.paths else ()
    return Checked(
        slate=Slate(items=items[kept], scores=scores[kept], paths=paths, pruned=slate.pruned), illegal=illegal
    )


def _sound(items: IntArray, scores: FloatArray, *, n: int, eligible_N: BoolArray) -> bool:
    """Tell quickly whether nothing has to be taken out, which is the rule."""
    rows: list[int] = items.tolist()
    if not len(set(rows)) == len(rows) <= n or not rows:
        return False
    inside = min(rows) >= 0 and max(rows) < len(eligible_N)
    return inside and bool(eligible_N[items].all()) and bool(np.isfinite(scores).all())
