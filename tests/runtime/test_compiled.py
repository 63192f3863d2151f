"""Compiled code that is kept on disk is not used once what it calls has changed."""

import os
import subprocess
import sys
from pathlib import Path

CALLED = """
from recsys.runtime.compiled import kernel

@kernel
def called(x):
    return x + {added}
"""
CALLING = """
from recsys.runtime.compiled import kernel
from called import called

@kernel
def calling(x):
    return called(x) * 10.0
"""


def _said(folder: Path) -> float:
    """Call the kernel in a new process, as the next start of a server does."""
    code = "import calling; print(calling.calling(1.0))"
    path = os.pathsep.join([str(folder), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return float(done.stdout)


def test_kernel_when_one_that_it_calls_in_another_module_changes_then_it_is_compiled_again(tmp_path: Path) -> None:
    (tmp_path / "calling.py").write_text(CALLING)
    (tmp_path / "called.py").write_text(CALLED.format(added="1.0"))
    assert _said(tmp_path) == 20.0
    kept = sorted(tmp_path.rglob("calling*.nbc"))
    assert kept
    assert _said(tmp_path) == 20.0
    assert sorted(tmp_path.rglob("calling*.nbc")) == kept
    (tmp_path / "called.py").write_text(CALLED.format(added="2.0"))
    assert _said(tmp_path) == 30.0
