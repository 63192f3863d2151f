"""Two releases at once: a user always meets the same one, and every exposure says which."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.split import position
from tests.serving.test_releases import second_version
from tests.support.small_shop import Fake, opened, service_of


def test_split_when_users_ask_again_then_stay_with_their_release_and_exposures_name_the_arm(shop: Path) -> None:
    second = second_version(shop)
    with opened(shop, Fake(), config={"split_version": second, "split_share": 0.5}) as client:
        service = service_of(client)
        first = service.releases.current.version
        met: dict[str, set[str]] = {}
        for user in [f"user-{number}" for number in range(40)] * 2:
            answer = client.post("/v1/recommend", json={"user_id": user, "n": 1}).json()
            met.setdefault(user, set()).add(answer["model_version"])
        assert all(len(versions) == 1 for versions in met.values())
        shares = [next(iter(versions)) for versions in met.values()]
        # Forty users at a half each: fewer than ten in an arm would be beyond three standard deviations (3 x 3.2).
        assert min(shares.count(first), shares.count(second)) >= 10
        stranger = client.post("/v1/recommend", json={"history": [], "n": 1}).json()
        assert stranger["model_version"] == first
        client.put("/v1/items", json=[{"item_id": "15", "available": False}])
        for user in ("user-1", "user-2", "user-3", "user-4"):
            shown = client.post("/v1/recommend", json={"user_id": user}).json()["items"]
            assert "15" not in [item["item_id"] for item in shown]
        assert service.exposures.flush(30)
        arms = {one.user_id: (one.arm, one.model_version) for one in service.store.slates.every()}
    assert arms[None] == (None, first)
    assert {arm for user, arm in arms.items() if user} == {("current", first), ("second", second)}


def test_split_when_the_second_release_is_not_there_then_the_current_one_answers_everybody(shop: Path) -> None:
    with opened(shop, Fake(), config={"split_version": "nope", "split_share": 1.0}) as client:
        answer = client.post("/v1/recommend", json={"user_id": "u"}).json()
        assert answer["model_version"] == service_of(client).releases.current.version


@given(user=st.text(), experiment=st.text())
def test_position_when_asked_then_is_a_share_and_repeats(user: str, experiment: str) -> None:
    assert 0 <= position(user, experiment) < 1
    assert position(user, experiment) == position(user, experiment)


def test_position_when_the_experiment_changes_then_users_are_dealt_anew() -> None:
    users = [str(number) for number in range(1000)]
    both = sum(position(user, "a") < 0.5 and position(user, "b") < 0.5 for user in users)
    # Independent halves: a quarter of a thousand, give or take four standard deviations (4 x 13.7).
    assert both == pytest.approx(250, abs=55)
