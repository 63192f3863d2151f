"""Training of a network of item sequences: windows of histories in batches of like lengths, the best epoch kept."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recsys.core.arrays import IntArray
from recsys.core.config import Config, Neutral
from recsys.core.schedule import warm_cosine
from recsys.core.telemetry import LOG, track
from recsys.core.training import Training


class TrainingConfig(Config):
    """How a network is trained."""

    epochs: NonNegativeInt = 20
    """Passes over the training log."""
    batch_positions: PositiveInt = 1024
    """Padded positions per batch."""
    learning_rate: PositiveFloat = 1e-3
    """Peak of the learning rate, after warm-up and before the cosine decay."""
    warmup_share: float = Field(default=0.05, ge=0, le=1)
    """Share of all steps that warm up."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's weight decay."""
    validate_every: PositiveInt = 2
    """Epochs between validations."""
    gradient_clip: float = Field(default=0.0, ge=0)
    """Largest norm of a step's gradient; 0 does not clip."""
    patience: int = Field(default=0, ge=0)
    """Training ends after so many validations in a row without a new best; 0 never ends early."""
    averaged_epochs: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0)
    """Over about how many of the latest epochs weights are averaged, for validation and for use; 0 averages none."""
    max_steps: Annotated[int, Neutral(0)] = Field(default=0, ge=0)
    """Steps at most: a log on which ``epochs`` would take more is passed over fewer times, once at least, and the
    learning rate ends with the last pass; 0 sets no limit."""

    def passes(self, batches_per_epoch: int) -> int:
        """Return how many epochs there are: ``epochs``, or the whole ones within ``max_steps``, at least one."""
        if not self.max_steps:
            return self.epochs
        return min(self.epochs, max(1, self.max_steps // batches_per_epoch))


def batches(lengths: IntArray, positions: int, rng: np.random.Generator) -> list[IntArray]:
    """Group sequences of like lengths into batches of at most ``positions`` padded positions, in random order."""
    order = rng.permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    groups: list[IntArray] = []
    start = 0
    while start < len(order):
        size = max(1, positions // int(lengths[order[start]]))
        groups.append(order[start : start + size])
        start += size
    return [groups[g] for g in rng.permutation(len(groups))]


def train_best_epoch(  # noqa: PLR0913 (the parts of one training loop)
    network: nn.Module,
    config: TrainingConfig,
    rng: np.random.Generator,
    *,
    lengths: IntArray,
    loss: Callable[[IntArray, np.random.Generator], Tensor],
    validate: Callable[[], float] | None,
    name: str,
    targets: IntArray | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Train a network in place and leave the weights of the epoch that validates best in it, else the last ones.

    Several workers (recsys/core/workers.py) each take a share of every batch's sequences; the first one validates.

    Args:
        network: what learns.
        config: how long and how fast.
        rng: draws the batches.
        lengths: positions of each sequence.
        loss: the mean loss of the sequences with these numbers, and a stream for its draws.
        validate: the figure to maximise; none keeps the last epoch.
        name: what progress is shown for.
        targets: how many terms the loss of each sequence has; its positions where none are given.
        checkpoint: a file; a killed training goes on from its last validation and ends as if it had not been killed.
    """
    if not len(lengths):
        raise ValueError(f"{name} must have a user with two training events, got none; fit it on a longer log")
    batches_per_epoch = len(batches(lengths, config.batch_positions, np.random.default_rng(0)))
    epochs = config.passes(batches_per_epoch)
    training = _begun(network, config, rng, batches_per_epoch)
    if training.restore(checkpoint):
        LOG.info("%s: going on from epoch %d of the checkpoint", name, training.epochs_done + 1)
    targets = lengths if targets is None else targets
    over = config.patience and training.stale >= config.patience
    left = range(training.epochs_done + 1, training.epochs_done + 1 if over else epochs + 1)
    for epoch in track(left, what=f"training {name}", total=len(left)):
        network.train()
        groups = batches(lengths, config.batch_positions, rng)
        _take_steps(training, groups, loss, rng, targets, f"{name}, epoch {epoch} of {epochs}")
        network.eval()
        training.epochs_done = epoch
        if validate is not None and (epoch % config.validate_every == 0 or epoch == epochs):
            score = _keep_if_best(training, validate)
            LOG.debug("%s epoch %d: validation ndcg@10 %.4f", name, epoch, score)
            if checkpoint is not None:
                training.save(checkpoint)
            if config.patience and training.stale >= config.patience:
                LOG.info("%s: no new best in %d validations, stopped after epoch %d", name, training.stale, epoch)
                break
    training.take_best()


def _begun(network: nn.Module, config: TrainingConfig, rng: np.random.Generator, batches_per_epoch: int) -> Training:
    """Return the training before its first step: one cosine of the rate over all steps, weights averaged if set."""
    steps = config.passes(batches_per_epoch) * batches_per_epoch
    training = Training(
        network,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        share_of_rate=warm_cosine(total=steps, warm=max(1, round(config.warmup_share * steps))),
        clip=config.gradient_clip,
        draws=rng,
    )
    if config.averaged_epochs:
        training.average_weights(math.exp(-1 / (config.averaged_epochs * batches_per_epoch)))
    return training


def _keep_if_best(training: Training, validate: Callable[[], float]) -> float:
    """Return the figure of the weights, or of their average where one is kept; the best ones are copied."""
    with training.averaged():
        score = training.workers.of_first(validate() if training.workers.first else None)
        training.keep_if_best(score)
    return score


def _take_steps(
    training: Training,
    groups: Sequence[IntArray],
    loss: Callable[[IntArray, np.random.Generator], Tensor],
    rng: np.random.Generator,
    targets: IntArray,
    where: str,
) -> None:
    """Take one step for each group of sequences, or for this worker's share of it."""
    draws = training.workers.own_draws(rng)
    for place, group in enumerate(groups, start=1):
        mine = training.workers.share(group, targets[group])
        value = loss(mine.rows, draws)
        training.step(value, {"loss": float(value.detach())}, f"{where}, batch {place}", weight=mine.weight)
