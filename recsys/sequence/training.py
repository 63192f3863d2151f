"""Training of a network of item sequences: windows of histories in batches of like lengths, the best epoch kept."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.core.arrays import IntArray
from recsys.core.config import Config
from recsys.core.finite import require_finite
from recsys.core.schedule import warm_cosine
from recsys.core.telemetry import LOG, track


class TrainingConfig(Config):
    """How a network is trained."""

    epochs: int = 20
    """Passes over the training log."""
    batch_positions: int = 1024
    """Padded positions per batch."""
    learning_rate: float = 1e-3
    """Peak of the learning rate, after warm-up and before the cosine decay."""
    warmup_share: float = 0.05
    """Share of all steps that warm up."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    validate_every: int = 2
    """Epochs between validations."""
    gradient_clip: float = Field(default=0.0, ge=0)
    """Largest norm of a step's gradient; 0 does not clip."""
    patience: int = Field(default=0, ge=0)
    """Training ends after so many validations in a row without a new best; 0 never ends early."""


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


def train_best_epoch(  # noqa: PLR0913 (each is said by one caller and belongs to none of the others)
    network: nn.Module,
    config: TrainingConfig,
    rng: np.random.Generator,
    *,
    lengths: IntArray,
    loss: Callable[[IntArray], Tensor],
    validate: Callable[[], float] | None,
    name: str,
    checkpoint: Path | None = None,
) -> None:
    """Train a network in place and leave the weights of the epoch that validates best in it, else the last ones.

    Args:
        network: what learns.
        config: how long and how fast.
        rng: draws the batches.
        lengths: positions of each sequence.
        loss: the loss of the sequences with these numbers.
        validate: the figure to maximise; none keeps the last epoch.
        name: what progress is shown for.
        checkpoint: a file; a killed training goes on from its last validation and ends as if it had not been killed.
    """
    if not len(lengths):
        raise ValueError(f"{name} must have a user with two training events, got none; fit it on a longer log")
    steps = config.epochs * len(batches(lengths, config.batch_positions, np.random.default_rng(0)))
    course = _Course(network, config, rng, steps=steps)
    if checkpoint is not None and checkpoint.exists():
        course.restore(checkpoint)
        LOG.info("%s: going on from epoch %d of the checkpoint", name, course.epoch + 1)
    over = config.patience and course.stale >= config.patience
    left = range(course.epoch + 1, course.epoch + 1 if over else config.epochs + 1)
    for epoch in track(left, what=f"training {name}", total=len(left)):
        network.train()
        for place, group in enumerate(batches(lengths, config.batch_positions, rng), start=1):
            value = loss(group)
            require_finite({"loss": float(value.detach())}, f"{name}, epoch {epoch} of {config.epochs}, batch {place}")
            course.step(value)
        network.eval()
        course.epoch = epoch
        if validate is not None and (epoch % config.validate_every == 0 or epoch == config.epochs):
            score = validate()
            LOG.debug("%s epoch %d: validation ndcg@10 %.4f", name, epoch, score)
            course.keep_if_best(score)
            if checkpoint is not None:
                course.save(checkpoint)
            if config.patience and course.stale >= config.patience:
                LOG.info("%s: no new best in %d validations, stopped after epoch %d", name, course.stale, epoch)
                break
    network.load_state_dict(course.kept or network.state_dict())


class _Course:
    """The state of a training: weights, optimizer, random streams, and the best weights so far."""

    def __init__(self, network: nn.Module, config: TrainingConfig, rng: np.random.Generator, *, steps: int) -> None:
        self.network, self.rng, self.clip = network, rng, config.gradient_clip
        self.optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        warm = max(1, round(config.warmup_share * steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, warm_cosine(total=steps, warm=warm))
        self.epoch = 0
        self.best = -1.0
        self.stale = 0
        self.kept: dict[str, Tensor] = {}

    def step(self, loss: Tensor) -> None:
        """Take one optimizer step on a batch's loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        self.schedule.step()

    def keep_if_best(self, value: float) -> None:
        """Keep the weights if they are the best so far."""
        self.stale += 1
        if value > self.best:
            self.stale = 0
            self.best = value
            self.kept = {key: tensor.clone() for key, tensor in self.network.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write what a killed training needs to continue."""
        device = next(self.network.parameters()).device
        state = {
            "epoch": self.epoch,
            "best": self.best,
            "stale": self.stale,
            "kept": self.kept,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "batches": json.dumps(self.rng.bit_generator.state),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.epoch, self.best, self.kept = state["epoch"], state["best"], state["kept"]
        self.stale = state["stale"]
        for part in ("network", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(state[part])
        self.rng.bit_generator.state = json.loads(state["batches"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])
