"""The parts of one server, put together; what they do with a request is in the other modules of this package."""

import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from serving.asking import RequestContext, this_moment
from serving.exposures import ExposureWriter
from serving.fallback import LastGoodAnswers
from serving.histories import Histories, StoreThreads
from serving.loop_queue import LoopQueue
from serving.metrics import Metrics
from serving.model import ModelThread
from serving.releases import Releases
from serving.rules import NamedRule
from serving.settings import ServingConfig
from serving.shadow import Shadow
from serving.store import Store
from serving.tracing import Tracing

_ALWAYS_WAIT = 8
"""Requests that may wait for the model however long it takes."""


@dataclass(kw_only=True)
class Service:
    """Everything a route needs; ``rules`` and ``draining`` are replaced whole, the rest stays."""

    config: ServingConfig
    releases: Releases
    model: ModelThread
    loop_queue: LoopQueue
    store: Store
    threads: StoreThreads
    histories: Histories
    exposures: ExposureWriter
    last_good_answers: LastGoodAnswers
    shadow: Shadow
    metrics: Metrics
    tracing: Tracing
    rules: tuple[NamedRule, ...] = ()
    draining: bool = False
    activation: threading.Lock = field(default_factory=threading.Lock)
    """Held while a release is swapped and the store notes it, so that nobody acts on one without the other."""
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def stage(self, name: str) -> "Stage":
        """Return what counts the time of a part of an answer, and makes a span of it where spans are made."""
        return Stage(self, name)

    def context(self) -> RequestContext:
        """Return the rules, settings and time that hold for a request now."""
        return RequestContext(rules=self.rules, config=self.config, now=this_moment())

    def full(self) -> bool:
        """Tell whether a request for a slate would wait too long for those before it."""
        queue = self.loop_queue if self.releases.current.has_fast_ranker else self.model
        return queue.waiting() > _ALWAYS_WAIT and queue.expected_wait() > self.config.queue_seconds

    def policy(self) -> str:
        """Return the name under which propensities are logged."""
        config = self.config
        if not config.explore_share:
            return "greedy"
        return f"plackett-luce share={config.explore_share:g} temperature={config.explore_temperature:g}"


class Stage:
    """A part of an answer: its seconds go to the metrics, however it ends."""

    __slots__ = ("_began", "_name", "_service", "_span")

    def __init__(self, service: Service, name: str) -> None:
        self._service, self._name = service, name
        self._span: AbstractContextManager[Any] = service.tracing.stage(name)
        self._began = 0.0

    def __enter__(self) -> None:
        self._span.__enter__()
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._service.metrics.stage(self._name, time.perf_counter() - self._began)
        self._span.__exit__(kind, error, trace)
