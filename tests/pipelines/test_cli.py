"""The command line: frozen verbs, instant help, exit codes, honest gaps."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app, main

VERBS = {
    "demo",
    "fetch",
    "import",
    "train",
    "update",
    "evaluate",
    "replay",
    "recommend",
    "serve",
    "report",
    "export",
    "publish",
    "bench",
}


def test_verbs_when_listed_then_are_the_frozen_ones() -> None:
    assert {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    } == VERBS


def test_help_when_asked_then_loads_no_heavy_library() -> None:
    code = (
        "import sys; from pipelines.cli import app; from typer.testing import CliRunner; "
        "CliRunner().invoke(app, ['--help']); "
        "print([name for name in ('torch', 'ray', 'transformers', 'sklearn') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "call",
    [
        ["recommend", "R"],
        ["train", "D", "--to", "R", "--recipe", "nope"],
        ["evaluate", "R", "--split", "train"],
        ["bench", "nothing"],
    ],
)
def test_wrong_calls_when_made_then_end_with_exit_code_2(call: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["recsys", *call])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2


def test_evaluate_when_there_is_no_run_then_names_the_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "none")])
    assert "recsys train" in str(result.exception)
