"""The writer of exposures: groups, a bounded queue, and a count of what is lost."""

import threading
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.exc import OperationalError

from serving.exposures import ExposureWriter
from serving.metrics import Metrics
from serving.store.slates import Exposure, SlateStore
from tests.support.small_shop import Fake, opened, service_of


def exposure(request_id: str) -> Exposure:
    return Exposure(
        request_id=request_id,
        user_id=None,
        at=1,
        model_version=None,
        policy="greedy",
        strategy="popular",
        degraded=None,
        item_ids=[],
        scores=[],
        propensities=[],
        slate_propensity=None,
    )


class Slates:
    """Keeps what is written; may hang, or fail."""

    def __init__(self, *, gate: threading.Event | None = None, fails: bool = False) -> None:
        self.written: list[str] = []
        self.started = threading.Event()
        self.gate = gate
        self.fails = fails

    def add(self, exposures: Sequence[Exposure]) -> None:
        self.started.set()
        if self.gate is not None:
            self.gate.wait(10)
        if self.fails:
            raise OperationalError("insert", {}, Exception("away"))
        self.written += [one.request_id for one in exposures]


def writer_of(slates: Slates, metrics: Metrics, size: int) -> ExposureWriter:
    found: SlateStore = slates  # type: ignore[assignment]
    return ExposureWriter(found, metrics, size=size)


def lost(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("recsys_lost_exposures_total")


def test_add_when_the_store_hangs_then_never_waits_and_counts_what_is_dropped() -> None:
    gate, metrics = threading.Event(), Metrics()
    slates = Slates(gate=gate)
    writer = writer_of(slates, metrics, size=3)
    writer.add(exposure("0"))
    assert slates.started.wait(10)
    for number in range(1, 6):
        writer.add(exposure(str(number)))
    # One is being written, three wait, two of six are dropped.
    assert (writer.waiting(), lost(metrics)) == (3, 2.0)
    gate.set()
    assert writer.flush(10)
    assert slates.written == ["0", "1", "2", "3"]
    writer.close(10)
    writer.add(exposure("late"))
    assert lost(metrics) == 3.0


def test_close_when_the_store_fails_then_counts_what_is_lost_and_ends() -> None:
    metrics = Metrics()
    slates = Slates(fails=True)
    writer = writer_of(slates, metrics, size=10)
    writer.add(exposure("0"))
    assert slates.started.wait(10)
    writer.close(10)
    assert lost(metrics) == 1.0


def test_close_when_exposures_wait_then_writes_them(shop: Path) -> None:
    with opened(shop, Fake()) as client:
        shown = [client.post("/v1/recommend", json={"history": []}).json()["request_id"] for _ in range(20)]
        store = service_of(client).store
        url = store.engine.url
    from serving.store import open_store

    again = open_store(url)
    assert sorted(one.request_id for one in again.slates.every()) == sorted(shown)
    again.close()
