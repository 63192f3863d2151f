"""The shadow release: asked what the answering one was asked, compared, counted, and never shown."""

import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.contracts import Slate
from serving.app import create_app
from serving.settings import ServingConfig
from tests.serving.test_releases import second_version
from tests.support.small_shop import Fake, bundle_of, ids, service_of, settle, version_of


def started(shop: Path, shadow: Fake, current: Fake, **config: Any) -> TestClient:
    """Return a client of a server whose second release is the shadow."""
    second = second_version(shop)

    def loader(folder: Path) -> Any:
        return bundle_of(shadow if folder.name == "second" else current, folder)

    settings = ServingConfig(**{"deadline_seconds": 30, "store_seconds": 30, "shadow_version": second} | config)
    return TestClient(create_app(shop, loader=loader, config=settings))


def counted(client: TestClient, outcome: str) -> float:
    value = service_of(client).metrics.registry.get_sample_value("recsys_shadow_total", {"outcome": outcome})
    return value or 0.0


def overlaps(client: TestClient) -> list[float | None]:
    """Return how many overlaps were observed, and their sum."""
    registry = service_of(client).metrics.registry
    return [registry.get_sample_value(f"recsys_shadow_overlap_{what}") for what in ("count", "sum")]


def drain(client: TestClient) -> None:
    """Wait until all that waits for the shadow was asked: its one thread takes this call last."""
    service_of(client).shadow._pool.submit(lambda: None).result(30)


def test_shadow_when_requests_are_answered_then_is_compared_under_the_same_conditions_and_never_shown(
    shop: Path,
) -> None:
    shadow, current = Fake(), Fake()
    with started(shop, shadow, current) as client:
        settle(client)
        shadow.histories.clear()
        body = {"history": [{"item_id": "10", "timestamp": 1}], "n": 3, "exclude": ["11"]}
        # Current: rows are 10 11 12 13 14 15 and it ranks by row. Shadow: rows are 15 14 13 12 11 10.
        answer = client.post("/v1/recommend", json=body)
        assert ids(answer) == ["12", "13", "14"]
        assert answer.json()["model_version"] == version_of(shop)
        drain(client)
        # The shadow shows 15 14 13: two of three in common; 10 is its row 5.
        assert overlaps(client) == pytest.approx([1, 2 / 3])
        assert shadow.histories[-1].items.tolist() == [5]
        assert counted(client, "compared") == 1
        service = service_of(client)
        assert service.exposures.flush(30)
        (exposure,) = service.store.slates.every()
        assert exposure.model_version == version_of(shop)


def test_shadow_when_it_fails_then_answers_go_on_and_the_failure_is_counted(shop: Path) -> None:
    shadow = Fake()
    with started(shop, shadow, Fake()) as client:
        settle(client)

        def broken(_slate: Slate) -> Slate:
            raise RuntimeError("broken")

        shadow.answer = broken
        answer = client.post("/v1/recommend", json={"history": []}).json()
        assert answer["degraded"] is None
        drain(client)
        assert (counted(client, "failed"), counted(client, "compared")) == (1, 0)


def test_shadow_when_it_is_slow_then_no_answer_waits_and_what_overflows_is_dropped(shop: Path) -> None:
    shadow, go, asked = Fake(), threading.Event(), threading.Event()
    with started(shop, shadow, Fake()) as client:
        settle(client)

        def slow(slate: Slate) -> Slate:
            asked.set()
            assert go.wait(60)
            return slate

        shadow.answer = slow
        client.post("/v1/recommend", json={"history": []})
        assert asked.wait(30)
        for _ in range(66):  # one is being asked, 64 wait, two are over
            assert client.post("/v1/recommend", json={"history": []}).json()["degraded"] is None
        assert counted(client, "dropped") == 2
        go.set()


@pytest.mark.parametrize(("share", "asked"), [(0.0, 0), (1.0, 5)])
def test_shadow_when_a_share_is_set_then_so_many_requests_reach_it(shop: Path, share: float, asked: int) -> None:
    with started(shop, Fake(), Fake(), shadow_share=share) as client:
        settle(client)
        for _ in range(5):
            client.post("/v1/recommend", json={"history": []})
        drain(client)
        assert counted(client, "compared") == asked


def test_shadow_when_its_release_is_not_there_then_the_current_one_answers_alone(shop: Path) -> None:
    with started(shop, Fake(), Fake(), shadow_version="nope") as client:
        settle(client)
        assert client.post("/v1/recommend", json={"history": []}).json()["degraded"] is None
        drain(client)
        assert counted(client, "compared") == 0
