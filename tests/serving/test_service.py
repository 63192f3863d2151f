"""Who asks the model: the event loop where its ranker is fast, else its thread; and when a request is one too many."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recsys.contracts import Slate
from tests.support.small_shop import Fake, bundle_of, ids, is_problem, opened, service_of

MODEL_THREAD = "recsys-model-0"


@pytest.mark.parametrize("fast", [True, False])
def test_slate_when_the_ranker_is_fast_then_the_event_loop_asks_it_and_all_else_is_the_threads(
    shop: Path, fast: bool
) -> None:
    asked: list[str] = []

    def note(slate: Slate) -> Slate:
        asked.append(threading.current_thread().name)
        return slate

    fake = Fake(note)

    def loader(folder: Path) -> Any:
        return bundle_of(fake, folder, has_fast_ranker=fast)

    with opened(shop, fake, loader=loader) as client:
        assert service_of(client).releases.current.has_fast_ranker is fast
        asked.clear()
        plain = client.post("/v1/recommend", json={"history": [], "n": 2})
        explained = client.post("/v1/recommend", json={"history": [], "n": 2, "explain": True})
        preferred = client.post("/v1/recommend", json={"history": [], "n": 2, "steer": {"prefer": ["night"]}})
    assert ids(plain) == ids(explained) == ["10", "11"]
    assert len(ids(preferred)) == 2
    assert (asked[0] == MODEL_THREAD) is not fast
    assert set(asked[1:]) == {MODEL_THREAD}


def test_slate_when_a_fast_ranker_fails_then_the_fallback_answers(shop: Path) -> None:
    def fail(_slate: Slate) -> Slate:
        raise RuntimeError("broken")

    fake = Fake()
    with opened(shop, fake, loader=lambda folder: bundle_of(fake, folder, has_fast_ranker=True)) as client:
        fake.answer = fail
        answer = client.post("/v1/recommend", json={"history": [], "n": 2})
        assert ids(answer) == ["13", "11"]
        assert answer.json()["degraded"] == "model_error"


def test_slate_when_more_than_eight_wait_and_too_long_then_is_429(shop: Path) -> None:
    fake = Fake()
    with opened(shop, fake, loader=lambda folder: bundle_of(fake, folder, has_fast_ranker=True)) as client:
        service = service_of(client)
        for waiting, seconds, full in ((9, 0.02, True), (8, 0.02, False), (9, 0.005, False)):
            service.loop_queue = SimpleNamespace(
                waiting=lambda waiting=waiting: waiting, expected_wait=lambda seconds=seconds: seconds
            )
            assert service.full() is full
            if full:
                refused = client.post("/v1/recommend", json={"history": []})
                assert is_problem(refused, 429)
                assert refused.headers["retry-after"] == "1"
                assert client.get("/v1/popular").status_code == 200
