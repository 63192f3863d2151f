"""A run that is killed with SIGKILL goes on, and ends with the artifacts of one that was not."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.flow import STAGES, train
from pipelines.recipe import Recipe
from pipelines.record import read_records

TRAIN = """
import sys
from pathlib import Path
from pipelines.flow import train
from pipelines.recipe import load_recipe
from recsys.core.telemetry import configure_logging
configure_logging()
train(Path(sys.argv[1]), Path(sys.argv[2]), load_recipe("smoke"), use_ray=False)
"""


def kill_when(said: str, world: Path, folder: Path) -> None:
    """Train in another process and kill it when it says something."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(world), str(folder)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if said in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_train_when_killed_twice_then_goes_on_and_ends_with_equal_artifacts(
    world: Path, run: Path, recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for said in ("epoch 1 ", "bundle: running"):
        kill_when(said, world, folder)
        assert "evaluation" not in read_records(folder)
    train(world, folder, recipe, use_ray=False)
    made, wanted = read_records(folder), read_records(run)
    assert {stage.name: made[stage.name].files for stage in STAGES} == {
        stage.name: wanted[stage.name].files for stage in STAGES
    }
    assert not list((folder / ".work").glob("*.tmp"))
