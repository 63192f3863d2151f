"""A training of a moment for several workers; a module of its own, for each worker that starts imports it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from recsys.core.workers import Workers
from recsys.sequence.training import TrainingConfig, train_best_epoch

EPOCHS, POINTS = 6, 8


def fit_line(
    folder: Path, *, batch_positions: int, at_batch: Callable[[int], None], validate: Callable[[], float]
) -> float:
    """Fit a line of slope 2 from slope 0 and return the slope; ``at_batch`` is told each batch's number, from 1 on."""
    network, drawn = nn.Linear(1, 1, bias=False), 0
    nn.init.constant_(network.weight, 0.0)
    points = torch.arange(1, POINTS + 1, dtype=torch.float32)[:, None]

    def loss(group: np.ndarray, _: np.random.Generator) -> torch.Tensor:
        nonlocal drawn
        drawn += 1
        at_batch(drawn)
        return (network(points[group]) - 2 * points[group]).square().mean()

    train_best_epoch(
        network,
        TrainingConfig(epochs=EPOCHS, batch_positions=batch_positions, validate_every=1, learning_rate=0.1),
        np.random.default_rng(0),
        lengths=np.ones(POINTS, np.int64),
        loss=loss,
        validate=validate,
        name="toy",
        checkpoint=folder / "checkpoint.pt",
    )
    return network.weight.item()


def train_toy(folder: Path, *, dies_in: int | None = None) -> dict[str, object]:
    """Fit a line by two batches an epoch; in one epoch of the first start the last worker is killed."""
    here, started = Workers.here(), []

    def validate() -> float:
        started.append(1)
        done = len(list(folder.glob("validated-*")))
        (folder / f"validated-{done}").touch()
        return float(done)

    def at_batch(drawn: int) -> None:
        mark = folder / "died"
        if dies_in is not None and not here.first and drawn == 2 * dies_in and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    weight = fit_line(folder, batch_positions=4, at_batch=at_batch, validate=validate)
    return {"workers": here.count, "weight": weight, "epochs here": len(started)}


def die_once(folder: Path) -> dict[str, object]:
    return train_toy(folder, dies_in=4)
