"""The metrics for Prometheus: one registry per application."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters and histograms of one application; label values are bounded sets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("recsys_requests", "Answers sent", ["route", "status"], registry=self.registry)
        self._seconds = Histogram(
            "recsys_answer_seconds",
            "Time to the answer, whatever its status",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "recsys_stage_seconds", "Time of a part of an answer", ["stage"], buckets=_BUCKETS, registry=self.registry
        )
        self._degraded = Counter(
            "recsys_degraded", "Answers without the model or without all it needs", ["reason"], registry=self.registry
        )
        self._strategies = Counter(
            "recsys_strategy", "Answers by who ranked them", ["strategy"], registry=self.registry
        )
        self._illegal = Counter(
            "recsys_illegal_items", "Items of the model refused on the way out", registry=self.registry
        )
        self._shadow = Counter("recsys_shadow", "Requests for the shadow release", ["outcome"], registry=self.registry)
        self._overlap = Histogram(
            "recsys_shadow_overlap",
            "Share of an answer's items that the shadow release shows as well",
            buckets=[tenth / 10 for tenth in range(11)],
            registry=self.registry,
        )
        self._lost = Counter("recsys_lost_exposures", "Answers whose exposures were not stored", registry=self.registry)
        self._model = Gauge("recsys_model_ready", "1 when the model answers, else 0", registry=self.registry)
        self._info = Gauge("recsys_model_info", "The model version that answers", ["version"], registry=self.registry)

    def watch(self, name: str, help_: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when Prometheus asks."""
        Gauge(name, help_, registry=self.registry).set_function(value)

    def watch_total(self, name: str, help_: str, values: Callable[[], Mapping[str, float]]) -> None:
        """Add a counter whose values, by outcome, are read when Prometheus asks."""
        self.registry.register(_Totals(name, help_, values))

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        """Count one answer and its time, whatever its status."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        """Note how long a part of an answer took."""
        self._stages.labels(name).observe(seconds)

    def recommended(self, strategy: str, degraded: str | None) -> None:
        """Count an answer by who ranked it and by what was wrong."""
        self._strategies.labels(strategy).inc()
        if degraded is not None:
            self._degraded.labels(degraded).inc()

    def illegal_items(self, count: int) -> None:
        """Count items that the model should not have returned."""
        self._illegal.inc(count)

    def lost_exposures(self, count: int) -> None:
        """Count answers whose exposures were not stored."""
        self._lost.inc(count)

    def shadowed(self, outcome: str, overlap: float | None = None) -> None:
        """Count a request for the shadow release, and how much of the answer it shares."""
        self._shadow.labels(outcome).inc()
        if overlap is not None:
            self._overlap.observe(overlap)

    def model(self, version: str, *, ready: bool) -> None:
        """Note which model answers."""
        self._model.set(float(ready))
        self._info.clear()
        self._info.labels(version).set(1.0)

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self.registry)


@dataclass(frozen=True)
class _Totals(Collector):
    """A counter whose values are kept elsewhere."""

    name: str
    help_: str
    values: Callable[[], Mapping[str, float]]

    def collect(self) -> Iterator[Metric]:
        """Yield the counter as it is now."""
        family = CounterMetricFamily(self.name, self.help_, labels=["outcome"])
        for outcome, value in self.values().items():
            family.add_metric([outcome], value)
        yield family
