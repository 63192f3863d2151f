"""The report as a person opens it: from a file, on a phone and on a desktop."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines.report.beside import write_comparison
from pipelines.report.page import write_report
from tests.browser.conftest import Screen
from tests.pipelines.test_report_replay import GATE, REFUSAL, made_up

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


def test_report_when_a_log_was_replayed_then_slices_are_small_multiples_and_refusals_are_read_on_a_phone(
    pruned: Path, screen: Screen, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(pruned, tmp_path / "run"))
    result = made_up()
    (copy / "reports" / "replay.json").write_text(json.dumps(result.to_json()))
    (copy / "reports" / "gate.json").write_text(json.dumps(GATE))
    screen.page.goto(write_report(copy).as_uri())
    part = screen.page.locator("#replay")
    drawn = part.locator("svg")
    assert drawn.count() == len(result.events) + 2  # a small multiple a slice, a plot over time a metric
    width = screen.page.viewport_size["width"]
    for place in range(drawn.count()):
        box = drawn.nth(place).bounding_box()
        assert box is not None
        assert box["x"] > 0
        assert box["x"] + box["width"] <= width
    for words in (REFUSAL, "Gate against the current release: refused", "What would change", "Over time"):
        assert part.get_by_text(words).first.is_visible()
    users = screen.page.locator("#users")
    assert users.locator("ol .path").count() >= 5
    assert users.locator("ul.cut .path").count() >= 1
    assert screen.errors == []
    assert screen.widest_overflow() <= 0


def test_comparison_when_opened_from_a_file_then_fits_the_screen(run: Path, screen: Screen, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "a-run-with-a-rather-long-name-of-a-night"))
    screen.page.goto(write_comparison([run, copy]).as_uri())
    assert screen.page.get_by_text("100.0 % of the first ten items stay").is_visible()
    assert screen.errors == []
    assert screen.widest_overflow() <= 0
