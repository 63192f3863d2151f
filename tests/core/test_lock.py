"""One process at a time in a folder: refused with the owner's name, free after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.core.errors import InUseError
from recsys.core.lock import LOCK, Owner, owned

HOLD = """
import sys
from pathlib import Path
from recsys.core.lock import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    """Start a process that holds a folder until its input ends or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate()


def test_folder_when_another_process_holds_it_then_is_refused_with_the_owners_name(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(InUseError, match=rf"process {process.pid} on .* since .*; wait"), owned(tmp_path):
        pass
    end(process)
    with owned(tmp_path):  # free once it has ended
        pass


def test_folder_when_its_owner_was_killed_then_is_taken_over_and_says_whose_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    end(process)
    assert json.loads((tmp_path / LOCK).read_text())["process"] == process.pid  # nobody cleaned up
    monkeypatch.setattr("recsys.core.telemetry.LOG.propagate", True)
    with owned(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert f"process {process.pid}" in caplog.text


@pytest.mark.parametrize("left", ["", "{", '{"process": 1}', "[]"])
def test_folder_when_the_lock_names_nobody_then_is_free(tmp_path: Path, left: str) -> None:
    (tmp_path / LOCK).write_text(left)
    with owned(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == ""


def test_owner_when_said_then_names_process_host_and_start() -> None:
    owner = Owner(process=12, host="here", started="2026-01-02 03:04:05+00:00")
    assert str(owner) == "process 12 on here since 2026-01-02 03:04:05+00:00"


def test_folder_when_nothing_can_be_written_then_has_no_owner_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)  # root may write wherever the disk allows it
    with owned(tmp_path):
        assert list(tmp_path.iterdir()) == []
