"""The console as a person uses it: search, build a history, see ranked items and the paths that led to them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.conftest import Screen
from tests.serving.test_serve_run import answer_of_the_model, served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def client(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server of the run, whose model answers; no page of these tests changes what it serves."""
    copy = tmp_path_factory.mktemp("console") / "run"
    shutil.copytree(run, copy)
    with served(copy) as client:
        assert answer_of_the_model(client, {"history": []})["degraded"] is None
        yield client


def test_console_when_two_items_are_added_then_shows_ten_ranked_items_with_their_paths(
    client: httpx.Client, screen: Screen
) -> None:
    page = screen.page
    page.goto(str(client.base_url))
    for _ in range(2):
        page.get_by_role("button", name="Add ").first.click()
    assert page.locator("#history li.row").count() == 2
    page.get_by_role("button", name="Recommend").click()
    page.locator("#ranked .path").nth(9).wait_for()
    assert page.locator("#ranked > li").count() == 10
    assert page.locator("#note").is_hidden()
    assert screen.errors == []
    assert screen.widest_overflow() <= 0


def test_console_when_a_facet_is_required_or_avoided_then_ranked_items_follow_it(
    client: httpx.Client, screen: Screen
) -> None:
    facet = client.get("/v1/facets").json()["facets"][0]
    words, code = facet["words"], [facet["codebook"], facet["code"]]
    page = screen.page
    page.goto(str(client.base_url))
    page.locator("#facet").fill(words)
    page.locator("#facets[aria-busy=false]").wait_for()  # else a click can meet the list of before
    page.get_by_role("button", name=f"require {words}", exact=True).first.click()
    assert page.locator("#steer li.row").inner_text().startswith(f"require: {words}")
    assert titles_after_asking(page) == titles_of(client, {"require": [code]})
    assert page.locator("#ranked .meets").count() == page.locator("#ranked > li").count()
    page.get_by_role("button", name=f"avoid {words}", exact=True).first.click()  # one facet, one wish
    assert page.locator("#steer li.row").count() == 1
    assert titles_after_asking(page) == titles_of(client, {"avoid": [code]})
    page.get_by_role("button", name=f"Remove avoid {words}").click()
    assert page.locator("#steer li.row").count() == 0
    assert titles_after_asking(page) == titles_of(client, None)
    assert screen.errors == []
    assert screen.widest_overflow() <= 0


def titles_after_asking(page: Any) -> list[str]:
    """Have the page recommend, and return the titles that it shows."""
    with page.expect_response("**/v1/recommend"):
        page.get_by_role("button", name="Recommend").click()
    page.wait_for_function("() => !document.getElementById('ask').disabled")
    shown: list[str] = page.locator("#ranked > li strong").all_inner_texts()
    return [title.split(". ", 1)[1] for title in shown]


def titles_of(client: httpx.Client, steer: dict[str, Any] | None) -> list[str]:
    """Return the titles that the API recommends under the same wishes."""
    body = {"history": [], "n": 10} | ({} if steer is None else {"steer": steer})
    return [item["title"] for item in answer_of_the_model(client, body)["items"]]
