"""The report as a person opens it: from a file, on a phone and on a desktop."""

from pathlib import Path

import pytest

from pipelines.report.page import write_report
from tests.browser.conftest import Screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_report_when_opened_from_a_file_then_it_is_whole_without_a_network_and_fits_the_screen(
    run: Path, screen: Screen
) -> None:
    asked: list[str] = []
    screen.page.on("request", lambda request: asked.append(request.url))
    screen.page.goto(write_report(run).as_uri())
    assert screen.errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert screen.page.locator("tr.ours").count() >= 1
    assert screen.page.locator("svg").count() >= 1
    assert screen.page.get_by_text("Not here yet").count() < screen.page.locator("section").count()
    assert screen.widest_overflow() <= 0
