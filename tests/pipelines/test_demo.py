"""The demo without a network: says so and goes on with the synthetic world."""

from pathlib import Path

import pytest

import pipelines.demo
from recsys.core.errors import DataError
from recsys.data.fetch import fetch as real_fetch


@pytest.mark.slow
def test_demo_when_there_is_no_network_then_says_so_and_runs_on_the_synthetic_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(name: str, to: Path) -> str:
        if name != "synthetic":
            raise DataError("no route to any host")
        return real_fetch(name, to)

    monkeypatch.setattr(pipelines.demo, "fetch", offline)
    pipelines.demo.run_demo(tmp_path, "smoke", use_ray=False)
    said = capsys.readouterr().out
    assert "no route to any host" in said
    assert "synthetic world" in said
    assert "popularity" in said
    assert said.count("reasoning path") == pipelines.demo.SHOWN_USERS
