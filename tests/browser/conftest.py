"""A real browser for the pages that people look at: the system's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@dataclass(kw_only=True)
class Screen:
    """An open page, and every error that it raised or wrote to its console."""

    page: Any
    errors: list[str] = field(default_factory=list)

    def widest_overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def screen(request: pytest.FixtureRequest) -> Iterator[Screen]:
    """Open an empty page of a phone's and of a desktop's size; skips where there is no Chromium."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = browser.new_page(viewport=request.param)
        opened = Screen(page=page)
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.on("console", lambda line: opened.errors.append(line.text) if line.type == "error" else None)
        yield opened
        browser.close()
