"""The import command: what it shows, a dry run, one message instead of a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.importing import run_import
from recsys.core.errors import DataError
from recsys.data.options import ImportOptions

_LOG = "uid;sku;ts;shop\n007;a;1700000000000;x\n7;b;1700000001000;x\n;c;1700000002000;x\n"


def _called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["recsys", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_run_import_when_read_then_shows_rows_counts_and_what_was_understood(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(_LOG)
    lines = list(run_import("auto", tmp_path / "log.csv", tmp_path / "data", ImportOptions()))
    assert lines[:4] == [
        "first interactions as understood:",
        "  user_id  item_id  timestamp   shop  position",
        "  007      a        1700000000  x     0",
        "  7        b        1700000001  x     1",
    ]
    assert f"2 interactions, 2 items written to {tmp_path / 'data'}" in lines
    assert "left out 1 rows: null user_id" in lines
    assert "note: fields are separated by semicolon" in lines
    assert "note: columns of the interactions are read: 'uid' as user_id, 'sku' as item_id, 'ts' as timestamp" in lines
    assert any("read as milliseconds since 1970: 1700000000000 is 2023-11-14 22:13:20 UTC" in line for line in lines)
    assert "note: columns of the interactions that nothing uses: 'shop'" in lines


def test_run_import_when_checked_then_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(_LOG)
    lines = list(run_import("csv", tmp_path / "log.csv", None, ImportOptions()))
    assert "2 interactions, 2 items checked; nothing was written (--check)" in lines
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_run_import_when_the_source_cannot_be_used_then_nothing_is_half_written(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n,,\n")
    with pytest.raises(DataError):
        list(run_import("csv", tmp_path / "log.csv", tmp_path / "data", ImportOptions()))
    assert list((tmp_path / "data").iterdir()) == []


def test_import_when_called_then_exit_codes_say_what_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.csv"
    log.write_text(_LOG)
    assert _called(monkeypatch, "import", "csv", str(log), "--to", str(tmp_path / "data")) == 0
    assert _called(monkeypatch, "import", "csv", str(log), "--check", "--map", "item_id=shop") == 0
    assert _called(monkeypatch, "import", "csv", str(log), "--to", "/proc/data") == 1
    assert _called(monkeypatch, "import", "csv", str(tmp_path / "none"), "--check") == 1
    assert _called(monkeypatch, "import", "csv", str(log)) == 2
    assert _called(monkeypatch, "import", "csv", str(log), "--check", "--time-unit", "weeks") == 2
    assert _called(monkeypatch, "import", "csv", str(log), "--check", "--map", "item") == 2


@pytest.mark.parametrize(
    "call",
    [
        ["evaluate", "R", "--json", "nowhere/x.json"],
        ["recommend", "R", "--history", "1", "--json", "nowhere/x.json"],
        ["fetch", "synthetic", "--to", "/proc/data"],
    ],
)
def test_commands_when_the_result_cannot_be_written_then_say_so_before_the_work(
    call: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _called(monkeypatch, *call) == 1
    said = capfd.readouterr().err
    assert "nowhere" in said or "/proc/data" in said
    assert "Traceback" not in said


def test_import_when_the_terminal_is_not_utf8_then_the_work_is_done(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user_id,item_id,timestamp\nJosé,☕,{1_700_000_000}\n", encoding="utf-8")
    code = "from pipelines.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "import", "csv", str(tmp_path / "log.csv"), "--to", str(tmp_path / "data")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, b"Jos" in done.stdout, done.stderr) == (0, True, b"")
