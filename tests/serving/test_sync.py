"""What a server does beside requests: it deletes what is too old, and items change while a release is loaded."""

import threading
import time
from pathlib import Path
from typing import Any

from serving.sync import Sync
from tests.serving.test_releases import second_version
from tests.support.small_shop import Fake, bundle_of, event, ids, opened, service_of

DAY = 86_400


def test_round_when_events_and_exposures_are_past_their_age_then_are_deleted(shop: Path) -> None:
    now = int(time.time())
    with opened(shop, Fake(), config={"keep_events_days": 30, "keep_exposures_days": 1}) as client:
        service = service_of(client)
        client.post("/v1/events", json=[event("old", "10", now - 31 * DAY), event("new", "11", now - 29 * DAY)])
        shown = client.post("/v1/recommend", json={"user_id": "u"}).json()["request_id"]
        assert service.exposures.flush(60)
        Sync(service)._round()
        assert service.store.events.past("u", 10).events == (("11", now - 29 * DAY),)
        assert service.store.slates.get(shown) is not None
        assert service.store.slates.expire(now + DAY) == 1


def test_put_when_a_release_is_being_loaded_then_the_item_changes_at_once(shop: Path) -> None:
    second = second_version(shop)
    loading, gate = threading.Event(), threading.Event()

    def loader(folder: Path) -> Any:
        if folder.name == "second":
            loading.set()
            gate.wait(60)
        return bundle_of(Fake(), folder)

    with opened(shop, Fake(), loader=loader) as client:
        releases = service_of(client).releases
        activation = threading.Thread(target=releases.activate, args=(second,))
        activation.start()
        assert loading.wait(60)
        client.put("/v1/items", json=[{"item_id": "10", "available": False}])
        assert "10" not in ids(client.post("/v1/recommend", json={"history": []}))
        assert not gate.is_set()
        gate.set()
        activation.join(60)
        answer = client.post("/v1/recommend", json={"history": []})
        assert answer.json()["model_version"] == second
        assert "10" not in ids(answer)
