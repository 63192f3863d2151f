"""Progress of a resumed training, and from which checkpoint it goes on."""

import json

import torch
from transformers import TrainerState

from recsys.alignment.harness import Progress, last_checkpoint
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


def test_last_checkpoint_when_the_newest_cannot_be_read_then_is_the_one_before(tmp_path, caplog):
    for step in (2, 4, 6):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        torch.save({"step": step}, folder / "optimizer.pt")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (tmp_path / "checkpoint-6" / "trainer_state.json").write_text('{"global')
    whole = (tmp_path / "checkpoint-4" / "optimizer.pt").read_bytes()
    (tmp_path / "checkpoint-4" / "optimizer.pt").write_bytes(whole[: len(whole) // 2])
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert caplog.text.count("cannot be read") == 2
    assert last_checkpoint(tmp_path / "checkpoint-2") is None
