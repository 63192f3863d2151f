"""Releases swapped under load, and a disk that is full: no answer fails, and what cannot be done is said."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text

from serving.settings import Keys
from tests.serving.test_releases import change_title, second_version
from tests.support.small_shop import Fake, event, ids, is_problem, opened, service_of, version_of

ADMIN = {"X-API-Key": "boss"}
KEYS = Keys(admins=frozenset({"boss"}))


def test_activate_when_clients_ask_meanwhile_then_none_fails_and_each_answer_is_of_one_release(shop: Path) -> None:
    first, second = version_of(shop), second_version(shop)
    # The fake ranks by row; the second bundle lists the items the other way round.
    ranked = {first: ["10", "11", "12", "13", "14", "15"], second: ["15", "14", "13", "12", "11", "10"]}
    broken = shop / "releases" / "third"
    with opened(shop, Fake(), keys=KEYS) as client:
        stop = Event()

        def ask() -> set[str]:
            met = set()
            while not stop.is_set():
                answer = client.post("/v1/recommend", json={"history": []})
                assert answer.json()["degraded"] is None
                assert ids(answer) == ranked[answer.json()["model_version"]]
                met.add(answer.json()["model_version"])
            return met

        with ThreadPoolExecutor(4) as clients:
            asking = [clients.submit(ask) for _ in range(4)]
            try:
                for version in [second, first] * 10:
                    assert client.post(f"/v1/models/{version}/activate", headers=ADMIN).status_code == 200
                    ids(client.post("/v1/recommend", json={"history": []}))
                (shop / "releases" / "second").rename(broken)
                change_title(broken)
                service_of(client).releases._loaded.clear()
                assert is_problem(client.post(f"/v1/models/{second}/activate", headers=ADMIN), 409)
                assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == first
            finally:
                stop.set()
            assert set().union(*(one.result(60) for one in asking)) == {first, second}


def test_events_when_the_disk_is_full_then_are_refused_recommendations_go_on_and_all_is_well_after(shop: Path) -> None:
    with opened(shop, Fake()) as client:
        store = service_of(client).store
        assert client.post("/v1/events", json=[event("before", "10")]).status_code == 202
        with store.engine.connect() as connection:
            pages = connection.execute(text("pragma page_count")).scalar_one()
        room = pages

        @sqlalchemy_event.listens_for(store.engine, "checkout")
        def _limit(connection: object, _record: object, _proxy: object) -> None:
            # What SQLite says then is what it says of a disk without room: "database or disk is full".
            connection.execute(f"pragma max_page_count={room}")  # type: ignore[attr-defined]

        many = [event(f"e{number}", "11", user="x" * 200) for number in range(1000)]
        refused = client.post("/v1/events", json=many)
        assert is_problem(refused, 503)
        assert "retry-after" in refused.headers
        answer = client.post("/v1/recommend", json={"user_id": "u"})
        assert answer.json()["degraded"] is None
        assert "10" not in ids(answer)
        room = 1 << 30
        assert client.post("/v1/events", json=many).json()["accepted"] == 1000
        assert service_of(client).exposures.flush(60)
        assert store.slates.get(answer.json()["request_id"]) is not None
        assert service_of(client).metrics.registry.get_sample_value("recsys_lost_exposures_total") == 0
