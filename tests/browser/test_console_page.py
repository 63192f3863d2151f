"""The console as a person uses it: search, build a history, see ranked items and the paths that led to them."""

import shutil
from pathlib import Path

import pytest

from tests.browser.conftest import Screen
from tests.serving.test_serve_run import answer_of_the_model, served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_console_when_two_items_are_added_then_shows_ten_ranked_items_with_their_paths(
    run: Path, screen: Screen, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    with served(tmp_path / "run") as client:
        assert answer_of_the_model(client, {"history": []})["degraded"] is None
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
