"""A phase of training: epochs under one optimizer, which goes on from a checkpoint as if it had never stopped.

Axes: B batch, T time, R row (a training position), D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.core.arrays import IntArray
from recsys.core.config import Config
from recsys.core.schedule import warm_cosine
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import track
from recsys.data.events import EventLog
from recsys.model.batches import Batch
from recsys.model.generator import Generator

WARM_SHARE = 20
"""One step in so many warms up; then the learning rate falls as a cosine to zero."""


class PhaseConfig(Config):
    """What every phase has settings for."""

    epochs: int = Field(default=1, ge=0)
    """Passes over the training part."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW, after a warm-up of a twentieth of the steps, then a cosine to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    batch_positions: int = 1024
    """Training positions a batch."""
    shuffle_ties: float = 0.5
    """Share of windows in which events with equal timestamps are put in a random order: theirs says nothing."""


class Phase(ABC):
    """Trains a generator for some epochs; a subclass says what batches there are and what each one costs."""

    name: str
    judged: bool
    """Whether its epochs are validated, so that the best can be kept."""
    clip: float
    """Largest norm of the gradient."""

    def __init__(
        self,
        generator: Generator,
        log: EventLog,
        settings: PhaseConfig,
        *,
        seed: int,
        weights: Mapping[str, float],
        trained: nn.Module,
    ) -> None:
        self.generator, self.log, self.seed, self.weights = generator, log, seed, dict(weights)
        self.epochs = settings.epochs
        self.optimizer = torch.optim.AdamW(
            trained.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.steps_an_epoch = sum(1 for _ in self.batches(0)) if self.epochs else 0
        total = max(1, self.steps_an_epoch * self.epochs)
        warm = max(1, total // WARM_SHARE)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, warm_cosine(total=total, warm=warm))

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield an epoch's batches in the order they are trained on."""

    @abstractmethod
    def losses(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return a batch's losses by name; they are summed by the phase's weights."""

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return its mean losses."""
        torch.manual_seed(derive_seed(self.seed, "dropout", self.name, epoch))
        rng = rng_for(self.seed, "draws", self.name, epoch)
        self.generator.train()
        sums = dict.fromkeys(self.weights, 0.0)
        what = f"{self.name}, epoch {epoch + 1}/{self.epochs}"
        for batch in track(self.batches(epoch), what=what, total=self.steps_an_epoch):
            losses = self.losses(batch, rng)
            total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), self.clip)
            self.optimizer.step()
            self.schedule.step()
            sums = {name: sums[name] + float(loss.detach()) for name, loss in losses.items()}
        self.generator.eval()
        return {name: value / self.steps_an_epoch for name, value in sums.items()}

    def state(self) -> dict[str, Any]:
        """Return all that an interrupted phase needs to go on."""
        return {
            "weights": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.generator.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def rows_of(batch: Batch) -> tuple[IntArray, IntArray]:
    """Return the window and the time of every real position of a batch, each (rows,)."""
    windows_R, times_R = np.nonzero(np.arange(batch.items_BT.shape[1]) < batch.lengths_B[:, None])
    return windows_R, times_R
