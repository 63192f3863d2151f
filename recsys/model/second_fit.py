"""The training of the second opinion: many cheap epochs against drawn items.

Axes: B batch, T time, R row (a training position), D width, X drawn item.
"""

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from recsys.core.seeds import rng_for
from recsys.data.events import EventLog
from recsys.model.batches import Batch, epoch_batches
from recsys.model.generator import Generator
from recsys.model.history import SecondOpinion
from recsys.model.phase import Phase, PhaseConfig, rows_of


class SecondFitConfig(PhaseConfig):
    """How the second opinion learns."""

    epochs: int = Field(default=30, ge=0)
    """Passes over the training part."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW."""
    batch_positions: int = 2048
    """Training positions a batch."""
    negatives: int = Field(default=1024, ge=1)
    """Items drawn evenly for a batch's softmax beside its own targets."""


class SecondTrainer(Phase):
    """Trains the second encoder by a softmax over drawn items; the rest of the generator stays as it is."""

    name = "second opinion"
    judged = False
    clip = 5.0

    def __init__(
        self, generator: Generator, second: SecondOpinion, log: EventLog, config: SecondFitConfig, *, seed: int
    ) -> None:
        self.config, self.second = config, second
        self.used_X = np.flatnonzero(np.bincount(log.items_E, minlength=log.num_items))
        with torch.no_grad():  # what nobody used has no say
            second.items.weight[torch.from_numpy(np.bincount(log.items_E, minlength=log.num_items) == 0)] = 0
        super().__init__(generator, log, config, seed=seed, weights={"item": 1.0}, trained=second)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield windows of all users, shuffled anew each epoch."""
        return epoch_batches(
            self.log,
            max_length=self.generator.shape.max_history,
            positions=self.config.batch_positions,
            rng=rng_for(self.seed, self.name, epoch),
            shuffle_ties=self.config.shuffle_ties,
        )

    def losses(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy of every position's next item among the drawn ones and itself."""
        second, device = self.second, self.generator.device
        drawn = rng.choice(self.used_X, min(self.config.negatives, len(self.used_X)), replace=False)
        drawn_X = torch.from_numpy(drawn).to(device)
        items_BT = torch.from_numpy(batch.items_BT).to(device)
        times_BT = torch.from_numpy(batch.timestamps_BT).to(device)[:, :-1]
        states_BTD = second.states(items_BT[:, :-1], self.generator.spans(times_BT))
        row_R, time_R = (torch.from_numpy(axis).to(device) for axis in rows_of(batch))
        queries_RD, target_R = second.scaled(states_BTD[row_R, time_R]), items_BT[row_R, time_R]
        logits_RX = queries_RD @ second.unit_items(drawn_X).T
        logits_RX = logits_RX.masked_fill(target_R[:, None] == drawn_X, float("-inf"))
        own_R1 = (queries_RD * second.unit_items(target_R)).sum(-1, keepdim=True)
        return {"item": functional.cross_entropy(torch.cat([own_R1, logits_RX], dim=1), torch.zeros_like(target_R))}
