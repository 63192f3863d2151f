"""Releases: verified before they answer, swapped whole, refused when broken, and remembered by id alone."""

import gc
import json
import threading
import weakref
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from recsys.core.errors import ArtifactError
from serving.app import create_app
from serving.release import load_release
from serving.releases import Releases
from serving.settings import Keys
from serving.sync import Sync
from tests.support.small_shop import Fake, bundle_of, event, ids, is_problem, make_run, opened, seal, service_of

ADMIN = {"X-API-Key": "boss"}
KEYS = Keys(admins=frozenset({"boss"}))


def change_title(bundle: Path) -> None:
    table = pq.read_table(bundle / "items.parquet")
    titles = pa.array(["Another", *table["title"].to_pylist()[1:]])
    pq.write_table(table.set_column(1, "title", titles), bundle / "items.parquet")


def flip_a_bit(bundle: Path) -> None:
    path = bundle / "popularity.json"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)


def drop_a_file(bundle: Path) -> None:
    (bundle / "popularity.json").unlink()


def add_a_file(bundle: Path) -> None:
    (bundle / "stray").write_text("x")


def claim_another_version(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"model_version": "0123456789ab"}))


def break_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{")


HARM = [change_title, flip_a_bit, drop_a_file, add_a_file, claim_another_version, break_manifest]


@pytest.mark.parametrize("harm", HARM)
def test_load_release_when_a_bundle_was_changed_then_refuses(shop: Path, harm: Any) -> None:
    def loader(folder: Path) -> Any:
        return bundle_of(Fake(), folder)

    load_release(shop / "bundle", loader)
    harm(shop / "bundle")
    with pytest.raises(ArtifactError, match="bundle"):
        load_release(shop / "bundle", loader)


@pytest.mark.parametrize(("share", "good"), [(0.9, True), (0.89, False)])
def test_load_release_when_the_model_answers_its_probes_otherwise_then_refuses(
    shop: Path, share: float, good: bool
) -> None:
    def loader(folder: Path) -> Any:
        return bundle_of(Fake(), folder, probe=lambda: share)

    if good:
        assert load_release(shop / "bundle", loader).model is not None
    else:
        with pytest.raises(ArtifactError, match="at least 90% of what its probes expect, got 89%"):
            load_release(shop / "bundle", loader)


@pytest.mark.parametrize("harm", [change_title, add_a_file, claim_another_version])
def test_server_when_its_bundle_was_changed_then_answers_from_the_fallback_and_says_so(shop: Path, harm: Any) -> None:
    harm(shop / "bundle")
    with opened(shop, Fake()) as client:
        answer = client.post("/v1/recommend", json={"history": [], "n": 2})
        assert ids(answer) == ["13", "11"]
        assert answer.json()["degraded"] == "model_failed"
        ready = client.get("/v2/health/ready")
        assert ready.status_code == 200
        assert str(shop) not in ready.text  # paths of this machine are for the log, and for who has a key
        assert "bundle" in client.get("/v1/models").json()["models"][0]["reason"]


def test_load_release_when_the_catalogue_lists_other_items_then_refuses(shop: Path) -> None:
    for wrong in (list("abcdef"), ["11", "10", "12", "13", "14", "15"], ["10"]):

        def loader(folder: Path, wrong: list[str] = wrong) -> Any:
            bundle = bundle_of(Fake(), folder)
            bundle.catalogue.item_ids = wrong
            return bundle

        with pytest.raises(ArtifactError, match="in their order"):
            load_release(shop / "bundle", loader)


def test_load_release_when_the_model_is_of_another_version_then_refuses(shop: Path) -> None:
    with pytest.raises(ArtifactError, match="must be"):
        load_release(shop / "bundle", lambda folder: bundle_of(Fake(), folder, model_version="other"))


def second_version(shop: Path) -> str:
    """Put a second bundle beside the first: the same items in another order, and no prices."""
    make_run(shop, ids=["15", "14", "13", "12", "11", "10"], bundle="releases/second")
    place = shop / "releases" / "second"
    table = pq.read_table(place / "items.parquet").drop_columns(["price", "categories"])
    pq.write_table(table, place / "items.parquet")
    return seal(place)


def test_activate_when_rows_move_then_a_user_is_remembered_by_ids(shop: Path, fake: Fake) -> None:
    second = second_version(shop)
    with opened(shop, fake, keys=KEYS) as client:
        first = service_of(client).releases.current.version
        client.post("/v1/events", json=[event("a", "10"), event("b", "11")])
        assert ids(client.post("/v1/recommend", json={"user_id": "u"})) == ["12", "13", "14", "15"]
        assert fake.histories[-1].items.tolist() == [0, 1]
        listed = client.get("/v1/models").json()["models"]
        assert [(one["version"], one["state"]) for one in listed] == [(first, "ready"), (second, "on disk")]
        assert client.post(f"/v1/models/{second}/activate", headers=ADMIN).json()["version"] == second
        answer = client.post("/v1/recommend", json={"user_id": "u"})
        # The fake ranks by row, and rows are reversed now; 10 and 11 are seen, as rows 5 and 4.
        assert ids(answer) == ["15", "14", "13", "12"]
        assert fake.histories[-1].items.tolist() == [5, 4]
        assert answer.json()["model_version"] == second
        fake.answer = broken
        fallback = client.post("/v1/recommend", json={"user_id": "u", "n": 2})
        assert (ids(fallback), fallback.json()["strategy"]) == (["15", "14"], "last_good")
        fake.answer = lambda slate: slate
        assert client.post(f"/v1/models/{first}/activate", headers=ADMIN).status_code == 200
        assert ids(client.post("/v1/recommend", json={"user_id": "u"})) == ["12", "13", "14", "15"]


def broken(_slate: Any) -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize("harm", [change_title, claim_another_version])
def test_activate_when_the_version_is_broken_then_the_old_one_stays(shop: Path, fake: Fake, harm: Any) -> None:
    second = second_version(shop)
    harm(shop / "releases" / "second")
    with opened(shop, fake, keys=KEYS) as client:
        first = service_of(client).releases.current.version
        wanted = "0123456789ab" if harm is claim_another_version else second
        assert is_problem(client.post(f"/v1/models/{wanted}/activate", headers=ADMIN), 409)
        answer = client.post("/v1/recommend", json={"history": []})
        assert (answer.json()["model_version"], answer.json()["degraded"]) == (first, None)
        assert is_problem(client.post("/v1/models/none-such/activate", headers=ADMIN), 404)


def test_activate_when_the_new_model_cannot_answer_then_the_old_one_stays(shop: Path) -> None:
    second = second_version(shop)
    good, bad = Fake(), Fake(broken)

    def loader(folder: Path) -> Any:
        return bundle_of(bad if folder.name == "second" else good, folder)

    with TestClient(create_app(shop, loader=loader, keys=KEYS), raise_server_exceptions=False) as client:
        assert service_of(client).releases.wait(10)
        assert is_problem(client.post(f"/v1/models/{second}/activate", headers=ADMIN), 409)
        assert client.post("/v1/recommend", json={"history": []}).json()["degraded"] is None


def test_server_when_started_again_then_the_activated_version_answers(shop: Path, fake: Fake) -> None:
    second = second_version(shop)
    with opened(shop, fake, keys=KEYS) as client:
        client.post(f"/v1/models/{second}/activate", headers=ADMIN)
    with opened(shop, fake, keys=KEYS) as client:
        assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == second


def point(shop: Path, version: str) -> None:
    (shop / "releases" / "current.json").write_text(json.dumps({"version": version}))


def test_server_when_a_release_was_published_before_it_starts_then_that_one_answers(shop: Path, fake: Fake) -> None:
    second = second_version(shop)
    point(shop, second)
    with opened(shop, fake) as client:
        assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == second


def test_sync_when_the_pointer_moves_then_the_published_release_answers_and_a_bad_pointer_changes_nothing(
    shop: Path, fake: Fake
) -> None:
    second = second_version(shop)
    with opened(shop, fake) as client:
        sync = Sync(service_of(client))
        sync.once()
        point(shop, second)
        sync.once()
        assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == second
        (shop / "releases" / "current.json").write_text("{")
        sync.once()
        assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == second


def test_activate_when_a_third_release_is_loaded_then_the_first_is_let_go_without_the_collector(shop: Path) -> None:
    second = second_version(shop)
    make_run(shop, ids=["12", "11", "10", "13", "14", "15"], bundle="releases/third")
    third = seal(shop / "releases" / "third")
    alive: dict[str, weakref.ref[Any]] = {}

    def loader(folder: Path) -> Any:
        model = Fake()
        alive[folder.name] = weakref.ref(model)
        return bundle_of(model, folder)

    loads: list[str] = []
    with opened(shop, Fake(), loader=loader) as client:
        releases = service_of(client).releases
        releases.on_loaded = lambda: loads.append(releases.current.version)
        first = releases.current.version
        gc.disable()
        try:
            releases.activate(second)
            releases.activate(first)
            assert alive["second"]() is not None  # the one before stays, to go back to
            releases.activate(second)
            releases.activate(third)
            assert alive["bundle"]() is None
        finally:
            gc.enable()
        assert (alive["second"]() is None, alive["third"]() is None) == (False, False)
        assert loads == [first, second]  # each is told of before it answers, and once


def test_encoder_when_it_is_loaded_at_the_start_then_the_collector_waits_and_at_an_activation_it_does_not(
    shop: Path,
) -> None:
    second = second_version(shop)
    collects: list[bool] = []

    def loader(folder: Path) -> Any:
        return bundle_of(Fake(), folder, load_item_encoder=lambda: collects.append(gc.isenabled()))

    loaded: list[int] = []
    releases = Releases(shop, loader=loader, on_change=lambda _release: None, encoder_at_start=True)
    both = threading.Event()

    def note() -> None:
        loaded.append(len(collects))
        if collects:
            both.set()

    releases.on_loaded = note
    try:
        releases.start()
        assert both.wait(30)
        releases.activate(second)
    finally:
        gc.unfreeze()
    assert collects == [False, True]
    assert loaded == [0, 1, 2]  # the model, its encoder, and both of the second release
