"""How a network of item sequences learns: runs of histories in batches of like lengths, the best epoch kept.

Axes: B sequence, T position, U user, E event.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from recsys.core.arrays import IntArray
from recsys.core.config import Config
from recsys.core.schedule import warm_cosine
from recsys.core.telemetry import LOG, track
from recsys.data.events import EventLog


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


def windows(log: EventLog, max_length: int) -> list[IntArray]:
    """Cut histories into runs of ``max_length`` inputs and one target: all but the first event are targets once."""
    runs: list[IntArray] = []
    for start, stop in zip(log.offsets_U1[:-1].tolist(), log.offsets_U1[1:].tolist(), strict=True):
        for end in range(stop, start + 1, -max_length):
            runs.append(log.items_E[max(start, end - max_length - 1) : end])
    return runs


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


def pad(sequences: Sequence[IntArray]) -> tuple[Tensor, Tensor]:
    """Return the sequences as one matrix, padded on the right with item 0, and their lengths."""
    lengths_B = torch.tensor([len(items) for items in sequences])
    tensors = [torch.from_numpy(np.array(items, np.int64)) for items in sequences]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True), lengths_B


def train_best_epoch(  # noqa: PLR0913 (each is said by one caller and belongs to none of the others)
    network: nn.Module,
    config: TrainingConfig,
    rng: np.random.Generator,
    *,
    lengths: IntArray,
    loss: Callable[[IntArray], Tensor],
    validate: Callable[[], float] | None,
    name: str,
) -> None:
    """Train a network in place and leave the weights of the epoch that validates best in it, else the first ones'.

    Args:
        network: what learns.
        config: how long and how fast.
        rng: draws the batches.
        lengths: positions of each sequence.
        loss: the loss of the sequences with these numbers.
        validate: the figure to maximise; none keeps the last epoch.
        name: what progress is shown for.
    """
    if not len(lengths):
        raise ValueError(f"{name} must have a user with two training events, got none; fit it on a longer log")
    steps = config.epochs * len(batches(lengths, config.batch_positions, np.random.default_rng(0)))
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, warm_cosine(total=steps, warm=max(1, round(config.warmup_share * steps)))
    )
    best, kept = -1.0, network.state_dict()
    for epoch in track(range(1, config.epochs + 1), what=f"training {name}", total=config.epochs):
        network.train()
        for group in batches(lengths, config.batch_positions, rng):
            batch_loss = loss(group)
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        if validate is not None and (epoch % config.validate_every == 0 or epoch == config.epochs):
            value = validate()
            LOG.debug("%s epoch %d: validation ndcg@10 %.4f", name, epoch, value)
            if value > best:
                best, kept = value, {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.load_state_dict(kept)
