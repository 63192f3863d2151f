"""Owns what Prometheus reads: one registry per application."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters and histograms of one application; label values are bounded sets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("recsys_requests", "Answers sent", ["route", "status"], registry=self.registry)
        self._seconds = Histogram(
            "recsys_answer_seconds", "Time to the answer", ["route"], buckets=_BUCKETS, registry=self.registry
        )
        self._degraded = Counter(
            "recsys_degraded", "Answers without the model, by reason", ["reason"], registry=self.registry
        )
        self._illegal = Counter(
            "recsys_illegal_items", "Items of the model refused on the way out", registry=self.registry
        )
        self._lost = Counter("recsys_lost_exposures", "Answers whose exposures were not stored", registry=self.registry)

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        """Count one answer and its time, whatever its status."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def degraded(self, reason: str) -> None:
        """Count an answer that the model did not give."""
        self._degraded.labels(reason).inc()

    def illegal_items(self, count: int) -> None:
        """Count items that the model should not have returned."""
        self._illegal.inc(count)

    def lost_exposures(self) -> None:
        """Count an answer whose exposures the store refused."""
        self._lost.inc()

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self.registry)
