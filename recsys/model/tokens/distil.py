"""Distillation of a token model: a teacher's item probabilities after training histories, and after one item more.

Axes: B batch, R row (a history and its soft target), T time, N item, Z item of a soft target, W window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.contracts import History, ItemScores
from recsys.core.arrays import Float64Array, FloatArray, IntArray
from recsys.core.device import Precision
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import track
from recsys.data.events import EventLog
from recsys.model.tokens.config import DistillationConfig, TokenFitConfig
from recsys.model.tokens.fit import NextItemLoss
from recsys.model.tokens.network import TokenModel
from recsys.sequence.softmax import Answers, catalogue_cross_entropy
from recsys.sequence.training import train_best_epoch

BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class SoftTargets:
    """A teacher's most probable next items after some histories: a student's soft targets (Hinton et al.).

    Shape:
        item_RZ: (histories, kept) the most probable items; prob_RZ: their probabilities, rows sum to one.
    """

    histories: tuple[History, ...]
    item_RZ: NDArray[np.int32]
    prob_RZ: NDArray[np.float16]

    def __post_init__(self) -> None:
        if not len(self.histories) == len(self.item_RZ) == len(self.prob_RZ):
            raise ValueError(
                f"soft targets must have one row a history, got {len(self.histories)} histories and "
                f"{len(self.item_RZ)} rows"
            )


def soft_targets_of(teacher: ItemScores, log: EventLog, config: DistillationConfig, *, seed: int) -> SoftTargets:
    """Return a teacher's targets after every history of a log, and after each with one item more.

    That item is drawn from all the teacher's probabilities and has the time of the history's last event. Histories of
    like lengths are scored together.
    """
    rng = rng_for(seed, "beliefs")  # the name is part of the seed: by another one other items would be drawn
    user_R = np.argsort(log.lengths_U, kind="stable")[(log.lengths_U == 0).sum() :]
    ends = [log.history(user) for user in user_R.tolist()]
    histories: list[History] = []
    parts: list[tuple[IntArray, FloatArray]] = []
    starts = range(0, len(ends), BATCH_SIZE)
    for start in track(starts, what="scoring by the teacher", total=len(starts)):
        batch = ends[start : start + BATCH_SIZE]
        prob_BN = _probabilities(teacher, batch, log)
        parts.append(_most_probable(prob_BN, config.kept))
        histories += batch
        for _ in range(config.extended):
            further = [_extended(*pair) for pair in zip(batch, _draw(prob_BN, rng), strict=True)]
            parts.append(_most_probable(_probabilities(teacher, further, log), config.kept))
            histories += further
    return SoftTargets(
        histories=tuple(histories),
        item_RZ=np.concatenate([item for item, _ in parts]).astype(np.int32),
        prob_RZ=np.concatenate([prob for _, prob in parts]).astype(np.float16),
    )


def _probabilities(teacher: ItemScores, histories: Sequence[History], log: EventLog) -> Float64Array:
    """Return the teacher's probabilities, 0 for items without training events, (histories, items)."""
    prob_BN = np.exp(teacher(histories).astype(np.float64))
    prob_BN[:, log.counts_N == 0] = 0
    return np.asarray(prob_BN / prob_BN.sum(axis=1, keepdims=True))


def _most_probable(prob_BN: Float64Array, kept: int) -> tuple[IntArray, FloatArray]:
    kept = min(kept, prob_BN.shape[1])
    item_BZ = np.argpartition(-prob_BN, kept - 1, axis=1)[:, :kept]
    prob_BZ = np.take_along_axis(prob_BN, item_BZ, axis=1)
    return item_BZ, (prob_BZ / prob_BZ.sum(axis=1, keepdims=True)).astype(np.float32)


def _draw(prob_BN: Float64Array, rng: np.random.Generator) -> IntArray:
    reached_BN = prob_BN.cumsum(axis=1)
    return np.asarray((reached_BN < rng.random((len(prob_BN), 1)) * reached_BN[:, -1:]).sum(axis=1))


def _extended(history: History, item: int) -> History:
    return History(
        items=np.append(history.items, item), timestamps=np.append(history.timestamps, history.timestamps[-1])
    )


def drop_events(history: History, share: float, rng: np.random.Generator) -> History:
    """Return a history without a random share of its events; the last one always stays."""
    kept = rng.random(len(history.items)) >= share
    kept[-1:] = True
    return History(items=history.items[kept], timestamps=history.timestamps[kept])


class DistillationLoss:
    """Cross-entropy of a teacher's probabilities after histories, beside that of the log's next items."""

    def __init__(self, model: TokenModel, targets: SoftTargets, config: DistillationConfig, hard: NextItemLoss) -> None:
        self.model, self.targets, self.config, self.hard = model, targets, config, hard

    @property
    def lengths_R(self) -> IntArray:
        """How many positions each history takes, the start included, shape (histories,)."""
        longest = self.model.config.max_history
        return np.array([min(len(history.items), longest) + 1 for history in self.targets.histories])

    def __call__(self, group: IntArray, rng: np.random.Generator) -> Tensor:
        """Return the weighted sum of both losses for some histories and for windows drawn beside them."""
        model, device = self.model, self.model.device
        shown = [drop_events(self.targets.histories[row], self.config.event_dropout, rng) for row in group.tolist()]
        prob_RZ = torch.from_numpy(self.targets.prob_RZ[group].astype(np.float32)).to(device)
        answers = Answers(
            item_RZ=torch.from_numpy(self.targets.item_RZ[group].astype(np.int64)).to(device),
            prob_RZ=prob_RZ / prob_RZ.sum(1, keepdim=True),
            absent_X=self.hard.absent_X,
        )
        input_ND, key_ND = model.item_inputs(), self.hard.item_keys()
        query_RD = model.queries(shown, input_ND=input_ND)
        loss = catalogue_cross_entropy(query_RD, key_ND, answers, dtype=self.hard.dtype)
        if not self.config.hard_weight:
            return loss
        vectors, most = (input_ND, key_ND), self.config.hard_positions
        return loss + self.config.hard_weight * self.hard(self._windows(rng), rng, most=most, vectors=vectors)

    def _windows(self, rng: np.random.Generator) -> IntArray:
        """Draw windows of like lengths that have about as many positions as the next-item loss takes.

        They are neighbours in an order by length, from a random position on, so next to nothing of a batch is padding
        and all positions are equally likely.
        """
        lengths_W = self.hard.windows.lengths_W
        order_W = np.lexsort((rng.random(len(lengths_W)), lengths_W))
        reached_W = lengths_W[order_W].cumsum()
        first = int(np.searchsorted(reached_W, rng.integers(0, reached_W[-1]), side="right"))
        last = int(np.searchsorted(reached_W, reached_W[first] + self.config.hard_positions))
        drawn_W = order_W[first : last + 1]
        short = self.config.hard_positions - int(lengths_W[drawn_W].sum())
        if short > 0:  # the longest windows came up: go on with the shortest
            drawn_W = np.concatenate([drawn_W, order_W[: int(np.searchsorted(reached_W, short)) + 1]])
        return np.asarray(drawn_W)


def distil(  # noqa: PLR0913 (student, log, targets, settings, validation)
    model: TokenModel,
    log: EventLog,
    targets: SoftTargets,
    config: DistillationConfig,
    fit: TokenFitConfig,
    *,
    seed: int,
    validate: Callable[[TokenModel], float] | None = None,
    checkpoint: Path | None = None,
    precision: Precision = "auto",
) -> TokenModel:
    """Train a token model further on soft targets; with ``validate`` the epoch of the highest figure is kept."""
    rng = rng_for(seed, "distillation-batches")
    loss = DistillationLoss(model, targets, config, NextItemLoss(model, log, fit, precision=precision))
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if model.device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, "distillation"))
        train_best_epoch(
            model,
            config,
            rng,
            lengths=loss.lengths_R,
            loss=loss,
            targets=np.ones(len(targets.histories), np.int64),
            validate=None if validate is None else lambda: validate(model),
            name="distilled token model",
            checkpoint=checkpoint,
        )
    return model.eval()
