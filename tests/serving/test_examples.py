"""The examples of docs/serving.md run as they are written, against the small shop behind a socket."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from serving.app import create_app
from serving.service import Service
from serving.settings import ServingConfig
from tests.support.server import free_port
from tests.support.small_shop import Fake, bundle_of, make_run

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
ADDRESS = "http://127.0.0.1:8080"


def example(language: str) -> str:
    """Return the first block of a language on the page."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    assert ADDRESS in found[1]
    return found[1]


@pytest.fixture
def shop_at(tmp_path: Path) -> Iterator[tuple[str, Service]]:
    """The address of a server whose items have the ids of the examples, and its service."""
    run = make_run(tmp_path / "run", ids=[50, 51, 52, 53, 54, 55])
    config = ServingConfig(deadline_seconds=60, store_seconds=60)
    app = create_app(run, config=config, loader=lambda folder: bundle_of(Fake(), folder))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline
        service: Service = app.state.service
        assert service.releases.wait(60)
        yield f"http://127.0.0.1:{port}", service
    finally:
        server.should_exit = True
        thread.join(60)


def run_example(command: list[str], text: str) -> str:
    """Run a program with an example as its input and return what it prints."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents_of(text: str) -> Iterator[dict[str, object]]:
    """Yield the JSON documents of a text, which stand behind each other."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        document, place = decoder.raw_decode(text, place)
        yield document


def test_curl_example_when_run_then_every_call_is_answered(shop_at: tuple[str, Service]) -> None:
    address, service = shop_at
    slate, events, facets, filtered = documents_of(run_example(["bash", "-e"], example("sh").replace(ADDRESS, address)))
    assert slate["degraded"] is None
    assert slate["items"]
    assert events["accepted"] == 1
    assert facets["facets"]
    assert filtered["items"]
    assert service.store.events.past("5", 10).seen == ("50",)


def test_python_example_when_run_then_its_click_names_the_slate(shop_at: tuple[str, Service]) -> None:
    address, service = shop_at
    run_example([sys.executable, "-"], example("python").replace(ADDRESS, address))
    # The fake ranks by row: 50 comes first, and is clicked.
    assert service.store.events.past("5", 10).seen == ("50",)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript runtime here")
def test_javascript_example_when_run_then_its_click_is_stored(shop_at: tuple[str, Service]) -> None:
    address, service = shop_at
    run_example(["node", "--input-type=module"], example("js").replace(ADDRESS, address))
    assert service.store.events.past("5", 10).seen == ("50",)
