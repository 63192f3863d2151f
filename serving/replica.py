"""Owns the model at run time: loaded beside the traffic, asked under a deadline, checked."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recsys.contracts import Recommender, Request, Slate
from recsys.core.arrays import BoolArray
from recsys.core.telemetry import LOG


class LoadedCatalogue(Protocol):
    """What serving reads of a catalogue: the words of each (codebook, code)."""

    @property
    def facets(self) -> Mapping[tuple[int, int], Any]:
        """Words by (codebook, code)."""
        ...


class LoadedBundle(Protocol):
    """What a bundle loader returns."""

    @property
    def recommender(self) -> Recommender:
        """The model, which tells the paths to its items."""
        ...

    @property
    def ranker(self) -> Recommender:
        """The same model without paths, which is faster."""
        ...

    @property
    def catalogue(self) -> LoadedCatalogue:
        """Its catalogue."""
        ...

    @property
    def model_version(self) -> str:
        """Its version."""
        ...


Loader = Callable[[Path], LoadedBundle]


class State(StrEnum):
    """How the model fares."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Refusal(StrEnum):
    """Why the model gave no (full) answer; the values are what clients and metrics read."""

    LOADING = "model_loading"
    FAILED = "model_failed"
    LATE = "model_late"
    ERROR = "model_error"
    ILLEGAL = "model_illegal_items"
    SHORT = "model_too_few_items"


class ModelUnavailableError(Exception):
    """The model did not answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A slate without illegal items, and how many were taken out."""

    slate: Slate
    illegal: int


def load_from_run(folder: Path) -> LoadedBundle:
    """Load a bundle with the project's own loader, which brings torch in."""
    from recsys.recommender.bundle import load_bundle

    bundle: LoadedBundle = load_bundle(folder)
    return bundle


class Replica:
    """One loaded model behind one thread."""

    def __init__(self, folder: Path, *, loader: Loader | None = None, deadline_seconds: float = 2.0) -> None:
        self._folder = folder
        self._loader = loader or load_from_run
        self._deadline = deadline_seconds
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recsys-model")
        self._running_since: float | None = None
        self._settled = threading.Event()
        self.state = State.LOADING
        self.reason = ""
        self.bundle: LoadedBundle | None = None

    def start(self) -> None:
        """Begin to load in the background."""
        threading.Thread(target=self._load, name="recsys-load", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until loading has ended, well or not; return whether it has."""
        return self._settled.wait(seconds)

    def close(self) -> None:
        """Let the running call end and drop the waiting ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def recommend(self, request: Request, *, explain: bool) -> Checked:
        """Return the model's checked slate, with paths if asked, or raise :class:`ModelUnavailableError`.

        The request must name the eligible items: what is not among them is taken out of the model's answer.
        """
        if request.eligible_N is None:
            raise ValueError("a request to the replica must name the eligible items, got None; pass a mask")
        bundle = self._ready_bundle()
        started = self._running_since
        if started is not None and time.monotonic() - started > self._deadline:
            # The thread is stuck in an earlier call: waiting would only add to the queue.
            raise ModelUnavailableError(Refusal.LATE)
        try:
            recommender = bundle.recommender if explain else bundle.ranker
            future = self._executor.submit(self._ask, recommender, request)
        except RuntimeError as error:  # the server is going down
            raise ModelUnavailableError(Refusal.FAILED) from error
        try:
            slate = future.result(timeout=self._deadline)
            return check_slate(slate, n=request.n, eligible_N=request.eligible_N)
        except (TimeoutError, CancelledError) as error:
            future.cancel()
            raise ModelUnavailableError(Refusal.LATE) from error
        except Exception as error:
            LOG.error("the model failed on a request", exc_info=error)
            raise ModelUnavailableError(Refusal.ERROR) from error

    def _ready_bundle(self) -> LoadedBundle:
        if self.bundle is not None:
            return self.bundle
        raise ModelUnavailableError(Refusal.FAILED if self.state is State.FAILED else Refusal.LOADING)

    def _ask(self, recommender: Recommender, request: Request) -> Slate:
        self._running_since = time.monotonic()
        try:
            (slate,) = recommender.recommend([request])
            return slate
        finally:
            self._running_since = None

    def _load(self) -> None:
        try:
            self.bundle = self._loader(self._folder)
            self.state = State.READY
        except Exception as error:
            LOG.error("the model at %s cannot be loaded", self._folder, exc_info=error)
            self.reason = f"{type(error).__name__}: {error}"
            self.state = State.FAILED
        self._settled.set()


def check_slate(slate: Slate, *, n: int, eligible_N: BoolArray) -> Checked:
    """Take out what must never be shown: unknown, ineligible, repeated items, scores that are no numbers.

    Shape:
        eligible_N: (items,) True where an item may be shown.
    """
    kept: list[int] = []
    seen: set[int] = set()
    for place, (item, score) in enumerate(zip(slate.items.tolist(), slate.scores.tolist(), strict=True)):
        legal = 0 <= item < len(eligible_N) and bool(eligible_N[item]) and item not in seen and bool(np.isfinite(score))
        if legal:
            kept.append(place)
            seen.add(item)
    illegal = len(slate.items) - len(kept)
    kept = kept[:n]
    paths = tuple(slate.paths[place] for place in kept) if slate.paths else ()
    return Checked(
        slate=Slate(items=slate.items[kept], scores=slate.scores[kept], paths=paths, pruned=slate.pruned),
        illegal=illegal,
    )
