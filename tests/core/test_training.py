"""A training that was killed and goes on from its checkpoint ends as one that was not."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recsys.core.errors import ArtifactError, TrainingError
from recsys.core.training import Training

EPOCHS, BATCHES = 6, 3


def training(seed: int, average: float = 0.0) -> Training:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    draws = np.random.default_rng(seed)
    one = Training(
        network, learning_rate=0.1, weight_decay=0.01, share_of_rate=lambda step: 1 / (step + 1), clip=0.5, draws=draws
    )
    if average:
        one.average_weights(average)
    return one


def run(one: Training, *, until: int = EPOCHS, checkpoint: Path | None = None) -> None:
    """Train with dropout on random points: every kind of draw has its share in what comes out."""
    assert one.draws is not None
    for epoch in range(one.epochs_done, until):
        for _ in range(BATCHES):
            points = torch.from_numpy(one.draws.normal(size=(8, 4)).astype(np.float32))
            loss = (one.network(points) - points.sum(1, keepdim=True)).square().mean()
            one.step(loss, {"loss": float(loss.detach())}, f"epoch {epoch}")
        one.log.append({"loss": float(loss.detach())})
        one.keep_if_best(-one.log[-1]["loss"])
        one.epochs_done = epoch + 1
        if checkpoint is not None:
            one.save(checkpoint)


def weights(one: Training) -> list[list[float]]:
    return [tensor.flatten().tolist() for tensor in one.network.state_dict().values()]


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_training_when_killed_and_restored_then_ends_as_if_it_had_not_been(tmp_path: Path, average: float) -> None:
    whole, first = training(1, average), training(1, average)
    torch.manual_seed(5)
    run(whole)
    torch.manual_seed(5)
    run(first, until=3, checkpoint=tmp_path / "c.pt")
    second = training(2, average)  # another start, which the checkpoint replaces
    assert second.restore(tmp_path / "c.pt")
    run(second)
    assert second.log == whole.log
    assert weights(second) == weights(whole)
    with whole.averaged(), second.averaged():
        assert weights(second) == weights(whole)
    whole.take_best()
    second.take_best()
    assert weights(second) == weights(whole)


def test_take_best_when_later_epochs_were_worse_then_gives_the_best_weights_back() -> None:
    one = training(3)
    one.keep_if_best(0.5)
    best = weights(one)
    run_to = one.epochs_done + 1
    one.best = 1e9  # so that no later epoch is kept
    run(one, until=run_to)
    assert weights(one) != best
    one.take_best()
    assert weights(one) == best
    assert one.stale == 1


def test_take_best_when_nothing_was_validated_then_takes_the_average() -> None:
    one = training(4, average=0.9)
    for _ in range(5):
        loss = one.network(torch.ones(2, 4)).square().mean()
        one.step(loss, {}, "a step")
    trained = weights(one)
    with one.averaged():
        averaged = weights(one)
    assert averaged != trained
    one.take_best()
    assert weights(one) == averaged


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let files of this process grow to so many bytes and no further, as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_save_when_the_disk_is_full_then_says_so_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    one = training(1)
    run(one, until=2, checkpoint=tmp_path / "c.pt")
    run(one, until=3)
    with disk_of(500), pytest.raises(ArtifactError, match=r"c\.pt must be written.*free space.*checkpoint before"):
        one.save(tmp_path / "c.pt")
    again = training(2)
    assert again.restore(tmp_path / "c.pt")
    assert again.epochs_done == 2
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_restore_when_there_is_no_checkpoint_then_says_so(tmp_path: Path) -> None:
    assert not training(1).restore(None)
    assert not training(1).restore(tmp_path / "none.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half of one"])
def test_restore_when_the_file_is_no_checkpoint_then_the_error_names_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"c\.pt must be a checkpoint of this training.*--fresh"):
        training(1).restore(tmp_path / "c.pt")


def test_restore_when_the_file_is_half_written_or_of_another_network_then_the_error_names_the_remedy(
    tmp_path: Path,
) -> None:
    one = training(1)
    one.save(tmp_path / "c.pt")
    whole = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    other = Training(nn.Linear(2, 2), learning_rate=0.1, weight_decay=0.0, share_of_rate=lambda _: 1.0)
    with pytest.raises(ArtifactError, match="--fresh"):
        training(1).restore(tmp_path / "half.pt")
    with pytest.raises(ArtifactError, match="--fresh"):
        other.restore(tmp_path / "c.pt")


def test_step_when_the_loss_is_no_number_then_is_refused_and_changes_nothing() -> None:
    one = training(1)
    before = weights(one)
    loss = one.network(torch.full((1, 4), torch.nan)).sum()
    with pytest.raises(TrainingError, match="epoch 1, batch 2"):
        one.step(loss, {"loss": float(loss.detach())}, "epoch 1, batch 2")
    assert weights(one) == before
