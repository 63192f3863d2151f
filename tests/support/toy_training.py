"""A training of a moment for several workers; a module of its own, for each worker that starts imports it."""

import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import nn

from recsys.core.workers import Workers
from recsys.sequence.training import TrainingConfig, train_best_epoch

EPOCHS = 6


def train_toy(folder: Path, *, dies_in: int | None = None) -> dict[str, object]:
    """Fit a line with a checkpoint after each epoch; in one epoch of the first start the last worker is killed."""
    here, started = Workers.here(), []
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    points = torch.arange(1, 9, dtype=torch.float32)[:, None]

    def loss(group: np.ndarray, _: np.random.Generator) -> torch.Tensor:
        return (network(points[group]) - 2 * points[group]).square().mean()

    def validate() -> float:
        started.append(1)
        done = len(list(folder.glob("validated-*")))
        (folder / f"validated-{done}").touch()
        return float(done)

    class Clock:
        """Counts the batches that this worker has drawn."""

        drawn = 0

    def counted(group: np.ndarray, draws: np.random.Generator) -> torch.Tensor:
        Clock.drawn += 1
        mark = folder / "died"
        if dies_in is not None and not here.first and Clock.drawn == 2 * dies_in and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(group, draws)

    train_best_epoch(
        network,
        TrainingConfig(epochs=EPOCHS, batch_positions=4, validate_every=1, learning_rate=0.1),
        np.random.default_rng(0),
        lengths=np.ones(8, np.int64),
        loss=counted,
        validate=validate,
        name="toy",
        checkpoint=folder / "checkpoint.pt",
    )
    return {"workers": here.count, "weight": network.weight.item(), "epochs here": len(started)}


def die_once(folder: Path) -> dict[str, object]:
    return train_toy(folder, dies_in=4)
