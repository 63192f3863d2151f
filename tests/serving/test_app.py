"""The HTTP API over a small shop: recommendations, events, degradation, refusals."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts import Slate
from recsys.core.errors import ArtifactError
from serving.app import create_app
from serving.model import check_slate
from serving.store.events import StoredEvent
from tests.support.small_shop import (
    IDS,
    Fake,
    bundle_of,
    event,
    ids,
    is_problem,
    make_run,
    opened,
    service_of,
    settle,
)


def test_recommend_when_a_history_is_sent_then_the_model_answers(client: TestClient, fake: Fake) -> None:
    answer = client.post(
        "/v1/recommend", json={"history": [{"item_id": 10}, {"item_id": "nope"}, {"item_id": "12"}], "n": 2}
    )
    body = answer.json()
    assert ids(answer) == ["11", "13"]
    assert (body["strategy"], body["degraded"], body["model_version"]) == (
        "recsys",
        None,
        service_of(client).releases.current.version,
    )
    assert "path" not in body["items"][0]
    assert fake.histories[0].items.tolist() == [0, 2]
    assert body["unknown_items"] == ["nope"]


def test_recommend_when_timestamps_are_out_of_order_then_the_model_reads_the_oldest_first(
    client: TestClient, fake: Fake
) -> None:
    client.post("/v1/recommend", json={"history": [{"item_id": 12, "timestamp": 9}, {"item_id": 10, "timestamp": 3}]})
    assert fake.histories[0].items.tolist() == [0, 2]
    assert fake.histories[0].timestamps.tolist() == [3, 9]


def test_recommend_when_explained_then_paths_are_in_words_and_pruned_ones_are_there(client: TestClient) -> None:
    body = client.post("/v1/recommend", json={"history": [], "n": 1, "explain": True}).json()
    path = body["items"][0]["path"]
    assert path["words"] == "night > crime"
    assert path["steps"][0] == {"codebook": 1, "code": 2, "facet": "night", "confidence": 0.5}
    assert not path["pruned"]
    assert body["pruned"][0]["pruned"]
    assert body["pruned"][0]["reason"] == "contradicts"


def test_events_when_of_a_new_user_then_the_next_request_reads_them(client: TestClient, fake: Fake) -> None:
    rows = [event("a", "13", 300), event("b", 10, 200), event("c", "11", 300)]
    assert client.post("/v1/events", json=rows).json()["accepted"] == 3
    assert ids(client.post("/v1/recommend", json={"user_id": "u"})) == ["12", "14", "15"]
    # Oldest first; equal timestamps stay in the order in which they came.
    assert fake.histories[0].items.tolist() == [0, 3, 1]


def test_events_when_some_rows_are_bad_then_the_others_are_kept_and_the_reasons_named(client: TestClient) -> None:
    rows: list[Any] = [
        event("a", "10"),
        event("b", "99"),  # unknown, and kept: the catalogue may have it tomorrow
        event("c", "11", "soon"),
        event("d", "11", 10**30),
        7,
        event("e\x00", "11"),
        event("f", "11", int(time.time()) + 3 * 86_400),
        event("nan", "11"),
    ]
    answer = client.post("/v1/events", json=rows)
    assert answer.status_code == 202
    assert (answer.json()["accepted"], answer.json()["unknown_items"]) == (2, 1)
    assert answer.json()["rejected_rows"] == [2, 3, 4, 5, 6, 7]
    reasons = [row["reason"] for row in answer.json()["rejected"]]
    assert "timestamp" in reasons[0]
    assert "future" in reasons[4]
    assert "stands for nothing" in reasons[5]


def test_events_when_sent_twice_and_after_a_restart_then_are_kept_once(shop: FilePath) -> None:
    with opened(shop, Fake()) as first:
        assert first.post("/v1/events", json=[event("a", "10"), event("a", "10")]).json()["duplicates"] == 1
    fake = Fake()
    with opened(shop, fake) as second:
        answer = second.post("/v1/events", json=[event("a", "10"), event("b", "11")]).json()
        assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (1, 1, [])
        second.post("/v1/recommend", json={"user_id": "u"})
    assert fake.histories[0].items.tolist() == [0, 1]


def test_events_when_ten_thousand_rows_are_bad_then_the_answer_is_bounded(client: TestClient) -> None:
    answer = client.post("/v1/events", json=[{}] * 10_000)
    assert answer.json()["rejected_rows"] == list(range(10_000))
    assert len(answer.json()["rejected"]) == 100
    assert len(answer.content) < 200_000
    assert is_problem(client.post("/v1/events", json=[{}] * 10_001), 422)


def test_events_when_ten_thousand_are_in_one_body_then_all_are_accepted(client: TestClient) -> None:
    rows = [event(f"an-event-of-ordinary-length-{k}", "10", user=f"user-{k}") for k in range(10_000)]
    assert client.post("/v1/events", json=rows).json()["accepted"] == 10_000


def test_events_when_of_dislike_then_items_are_seen_but_not_in_the_history(client: TestClient, fake: Fake) -> None:
    rows = [event("a", "10"), event("b", "11", event_type="Thumbs Down"), event("c", "12", event_type="impression")]
    client.post("/v1/events", json=rows)
    # 12 was only shown, which neither bars nor tells anything.
    assert ids(client.post("/v1/recommend", json={"user_id": "u"})) == ["12", "13", "14", "15"]
    assert fake.histories[0].items.tolist() == [0]


def test_recommend_when_the_model_is_missing_then_popular_items_come_and_degraded_says_why(shop: FilePath) -> None:
    with opened(shop, None) as client:
        answer = client.post("/v1/recommend", json={"history": [], "n": 3})
        assert ids(answer) == ["13", "11", "15"]
        assert (answer.json()["strategy"], answer.json()["degraded"]) == ("popular", "model_failed")
        assert answer.json()["model_version"] == "fallback"
        # Category of the last item first (Noir by count: 11, 15; 10 is seen), then popular.
        last = client.post("/v1/recommend", json={"history": [{"item_id": "10"}], "n": 3})
        assert ids(last) == ["11", "15", "13"]
        assert last.json()["strategy"] == "popular_in_category"
        ready = client.get("/v2/health/ready").json()
        assert (ready["ready"], ready["degraded"]) == (True, "model_failed")
        assert "no model here" in client.get("/v1/models").json()["models"][0]["reason"]


def test_recommend_when_the_model_still_loads_then_degraded_says_so(shop: FilePath) -> None:
    gate = threading.Event()

    def loader(_folder: FilePath) -> Any:
        gate.wait(10)
        return bundle_of(Fake(), shop / "bundle")

    with TestClient(create_app(shop, loader=loader)) as client:
        assert client.get("/v2/health/ready").status_code == 503
        assert client.post("/v1/recommend", json={"history": []}).json()["degraded"] == "model_loading"
        gate.set()
        settle(client)
        assert client.post("/v1/recommend", json={"history": []}).json()["degraded"] is None


def test_recommend_when_the_model_raises_after_a_good_answer_then_that_is_repeated(shop: FilePath, fake: Fake) -> None:
    def fail(_slate: Slate) -> Slate:
        raise RuntimeError("broken")

    with opened(shop, fake) as client:
        settle(client)
        good = ids(client.post("/v1/recommend", json={"user_id": 5, "n": 2}))
        assert good == ["10", "11"]
        client.post("/v1/events", json=[event("a", "10", user=5)])
        fake.answer = fail
        answer = client.post("/v1/recommend", json={"user_id": "5", "n": 2})
        # 10 is seen by now: what is left of the last good answer, then popular in 10's category (15).
        assert ids(answer) == ["11", "15"]
        assert (answer.json()["strategy"], answer.json()["degraded"]) == ("last_good", "model_error")
        assert 'recsys_degraded_total{reason="model_error"} 1.0' in client.get("/metrics").text


def test_recommend_when_the_model_is_late_then_the_answer_is_degraded_and_later_ones_are_not(shop: FilePath) -> None:
    gate = threading.Event()

    def wait(slate: Slate) -> Slate:
        gate.wait(10)
        return slate

    fake = Fake()
    with opened(shop, fake, config={"deadline_seconds": 0.5}) as client:
        fake.answer = wait
        for _ in range(2):
            assert client.post("/v1/recommend", json={"history": []}).json()["degraded"] == "model_late"
        gate.set()
        # The stuck call ends a moment after the gate opens.
        until = time.monotonic() + 10
        while (reason := client.post("/v1/recommend", json={"history": []}).json()["degraded"]) is not None:
            assert reason == "model_late"
            assert time.monotonic() < until


def test_recommend_when_the_model_returns_illegal_items_then_none_is_shown(shop: FilePath) -> None:
    def lie(_slate: Slate) -> Slate:
        return Slate(items=np.array([1, 99, 1, 0, 2, -1]), scores=np.array([6, 5, 4, 3, np.nan, 1], np.float32))

    fake = Fake()
    with opened(shop, fake) as client:
        fake.answer = lie
        answer = client.post("/v1/recommend", json={"history": [{"item_id": "10"}], "n": 3})
        # Only 11 is legal: 99, -1 are no items, 11 repeats, 10 is seen, 12 has no score. Then 15 (Noir), 13.
        assert ids(answer) == ["11", "15", "13"]
        assert answer.json()["degraded"] == "model_illegal_items"
        assert "recsys_illegal_items_total 5.0" in client.get("/metrics").text


@given(
    items=st.lists(st.integers(-3, 9), max_size=12),
    eligible=st.lists(st.booleans(), min_size=6, max_size=6),
    n=st.integers(1, 8),
)
def test_check_slate_when_given_anything_then_the_slate_is_legal_and_loses_no_legal_item(
    items: list[int], eligible: list[bool], n: int
) -> None:
    slate = Slate(items=np.array(items, np.int64), scores=np.zeros(len(items), np.float32))
    checked = check_slate(slate, n=n, eligible_N=np.array(eligible))
    legal = list(dict.fromkeys(item for item in items if 0 <= item < 6 and eligible[item]))
    assert checked.slate.items.tolist() == legal[:n]
    assert checked.illegal == len(items) - len(legal)


@pytest.mark.parametrize("broken", [False, True])
def test_recommend_when_items_are_seen_excluded_or_filtered_then_none_is_shown(shop: FilePath, broken: bool) -> None:
    with opened(shop, None if broken else Fake()) as client:
        client.post("/v1/events", json=[event("a", "10")])
        body = {"user_id": "u", "exclude": [11, "unknown"], "filter": {"category": "noir"}, "n": 200}
        # Noir is 10, 11, 15: one seen, one excluded.
        assert ids(client.post("/v1/recommend", json=body)) == ["15"]
        both = {
            "user_id": "u",
            "history": [{"item_id": 15}],
            "filter": {"category": "Noir"},
            "exclude": ["11"],
        }
        nothing = client.post("/v1/recommend", json=both)
        assert ids(nothing) == []
        assert nothing.json()["degraded"] is None


def test_recommend_when_a_category_is_unknown_then_the_problem_says_what_to_change(client: TestClient) -> None:
    answer = client.post("/v1/recommend", json={"history": [], "filter": {"category": "Opera"}})
    assert is_problem(answer, 422)
    fault = answer.json()["errors"][0]
    assert fault["where"] == "body.filter.category"
    assert "Opera" in fault["came"]


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/events"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"user_id": NaN}',
        b'{"history": [], "n": 1e400}',
        b'{"history": [], "n": ' + b"9" * 5000 + b"}",
        b'{"user_id": "a\\u0000b"}',
        b'{"user_id": "\\ud800"}',
        b'{"\\ud800": 1}',
        b"[" * 100_000,
    ],
)
def test_recommend_when_the_body_is_malformed_then_the_answer_is_a_problem_document(
    client: TestClient, path: str, body: bytes
) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert is_problem(answer, 422)


@pytest.mark.parametrize(
    "change", [{"n": 0}, {"n": 201}, {"n": True}, {"exclud": []}, {"history": None}, {"explain": 3}]
)
def test_recommend_when_a_field_is_wrong_then_the_status_is_422(client: TestClient, change: dict[str, Any]) -> None:
    answer = client.post("/v1/recommend", json={"history": []} | change)
    assert is_problem(answer, 422)
    assert answer.json()["errors"][0].keys() == {"where", "wanted", "came", "change"}


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with opened(make_run(tmp_path_factory.mktemp("shared") / "run"), Fake()) as client:
        yield client


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(IDS)
KEYS = st.sampled_from(
    [
        "user_id",
        "history",
        "n",
        "exclude",
        "filter",
        "category",
        "item_id",
        "timestamp",
        "event_id",
        "event_type",
        "explain",
    ]
)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=6)
)
EVENT_ROW = st.fixed_dictionaries(
    {key: LEAF for key in ("event_id", "user_id", "item_id", "timestamp")} | {"event_type": st.just("view") | LEAF}
)


@given(body=JSON)
@settings(max_examples=100, deadline=None)
def test_recommend_when_sent_any_json_then_the_status_is_never_5xx(shared_client: TestClient, body: Any) -> None:
    answer = shared_client.post("/v1/recommend", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 200 or is_problem(answer, 422)


@given(body=st.lists(EVENT_ROW, max_size=4) | JSON)
@settings(max_examples=100, deadline=None)
def test_events_when_sent_any_json_then_the_status_is_never_5xx(shared_client: TestClient, body: Any) -> None:
    answer = shared_client.post("/v1/events", content=json.dumps(body), headers={"Content-Type": "application/json"})
    if answer.status_code == 202:
        counts = answer.json()
        assert counts["accepted"] + counts["duplicates"] + len(counts["rejected_rows"]) == len(body)
    else:
        assert is_problem(answer, 422)


def test_routes_when_read_then_answer(client: TestClient) -> None:
    found = client.get("/v1/items", params={"query": "title 1", "limit": 2}).json()["items"]
    assert [item["item_id"] for item in found] == ["13", "11"]
    assert client.get("/v1/items", params={"query": "title 15"}).json()["items"][0]["categories"] == [
        "Film",
        "Noir",
    ]
    assert client.get("/v2/models/recsys").json()["versions"] == [service_of(client).releases.current.version]
    assert client.get("/v2/health/ready").json()["degraded"] is None
    page = client.get("/").text
    assert "<title>" in page
    assert "http://" not in page
    assert "https://" not in page
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'recsys_requests_total{route="/v1/items",status="200"} 2.0' in text
    assert 'recsys_answer_seconds_count{route="other"} 1.0' in text
    assert client.get("/openapi.json").status_code == 200


def test_create_app_when_there_are_no_items_then_the_error_says_what_to_do(tmp_path: FilePath) -> None:
    with pytest.raises(ArtifactError, match="recsys publish"):
        create_app(tmp_path)


def test_recommend_when_ids_are_integers_then_they_come_back_as_integers(tmp_path: FilePath) -> None:
    with opened(make_run(tmp_path / "run", ids=[7, 8]), Fake()) as client:
        assert ids(client.post("/v1/recommend", json={"history": [{"item_id": "7"}]})) == [8]


def test_recommend_when_a_fallback_answers_then_the_version_is_not_the_models(shop: FilePath) -> None:
    with opened(shop, None) as client:
        body = client.post("/v1/recommend", json={"history": []}).json()
        assert body["model_version"] == "fallback"
        service = service_of(client)
        assert service.exposures.flush(10)
        shown = service.store.slates.get(body["request_id"])
        assert shown is not None
        assert (shown.model_version, shown.strategy, shown.degraded) == (None, "popular", "model_failed")
        assert set(shown.propensities) == {None}


def test_application_when_imported_then_torch_is_not() -> None:
    code = "import serving.app, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_recommend_when_the_model_gives_no_numbers_then_popular_items_come_and_degraded_says_why(
    shop: FilePath,
) -> None:
    def no_numbers(slate: Slate) -> Slate:
        return Slate(items=slate.items, scores=np.full(len(slate.items), np.nan, np.float32))

    fake = Fake()
    with opened(shop, fake) as client:
        fake.answer = no_numbers
        answer = client.post("/v1/recommend", json={"history": [], "n": 2})
        assert (ids(answer), answer.json()["degraded"]) == (["13", "11"], "model_illegal_items")


def test_recommend_when_a_history_is_beyond_its_limit_then_it_is_refused_by_length_or_size(client: TestClient) -> None:
    event_ = {"item_id": "10"}
    assert is_problem(client.post("/v1/recommend", json={"history": [event_] * 10_001}), 422)
    assert is_problem(client.post("/v1/recommend", json={"history": [event_] * 100_000}), 413)
    assert is_problem(client.post("/v1/recommend", json={"history": [], "n": 1_000_000}), 422)


def test_recommend_when_a_user_has_a_hundred_thousand_events_then_the_model_reads_the_latest(shop: FilePath) -> None:
    fake = Fake()
    with opened(shop, fake) as client:
        stored = [
            StoredEvent(event_id=f"e{at}", user_id="u", item_id="15", event_type="view", timestamp=at)
            for at in range(100_000)
        ]
        early = StoredEvent(event_id="early", user_id="u", item_id="10", event_type="view", timestamp=0)
        service_of(client).store.events.add([early, *stored])
        # 10 is far behind the thousand events that the model is shown, and is known to be seen all the same.
        assert ids(client.post("/v1/recommend", json={"user_id": "u"})) == ["11", "12", "13", "14"]
        assert fake.histories[-1].timestamps.tolist() == list(range(99_000, 100_000))


@pytest.mark.parametrize(
    "user", ["\u202eabc", "\U0001f469\u200d\U0001f467", "a\nb", "' or 1=1 --", "\ufeffx", "e\u0301"]
)
def test_users_when_their_ids_are_strange_unicode_then_they_are_users_like_others(
    client: TestClient, user: str
) -> None:
    assert client.post("/v1/events", json=[event("a", "10", user=user)]).json()["accepted"] == 1
    assert "10" not in ids(client.post("/v1/recommend", json={"user_id": user}))
    assert "10" in ids(client.post("/v1/recommend", json={"user_id": user + "x"}))
    assert client.delete(f"/v1/users/{quote(user, safe='')}").json()["events"] == 1
