"""Progress of a resumed training."""

from transformers import TrainerState

from recsys.alignment.harness import Progress
from recsys.core import telemetry


def test_progress_when_training_goes_on_then_counts_from_there(monkeypatch):
    lines = []
    monkeypatch.setattr(telemetry, "_LINE_EVERY_SECONDS", 0)
    monkeypatch.setattr(telemetry.LOG, "info", lambda text, *values: lines.append(text % values))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    progress = Progress(5)
    progress.on_train_begin(None, TrainerState(global_step=3))
    for _ in range(2):
        progress.on_step_begin()
    progress.on_train_end()
    assert lines == ["alignment: 4 of 5", "alignment: 5 of 5"]
