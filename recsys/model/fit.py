"""Pre-training: any-order token loss, category loss and the item head's softmax, all positions of a history at once.

Axes: B batch, T time, R row (a training position), M codebook, K code, N item, Q category, D width.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import IntArray
from recsys.core.config import Config
from recsys.core.schedule import warm_cosine
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG, track
from recsys.data.events import EventLog
from recsys.model.batches import Batch, epoch_batches
from recsys.model.generator import Generator
from recsys.model.memory import Fold, Memory, cross_fit
from recsys.model.objectives import Asked, category_loss, item_beliefs, item_loss, token_loss
from recsys.model.partial import draw_partial_paths, implied_targets, true_targets


class FitConfig(Config):
    """How the generator is pre-trained."""

    epochs: int = 4
    """Passes over the training part."""
    closing_epochs: int = Field(default=2, ge=0)
    """Passes at the end over the latest events of histories alone: users are served there, and the short histories that
    most users have are not drowned by a few long ones."""
    closing_events: int = Field(default=3, ge=1)
    """How many latest events of a window a closing pass learns."""
    learning_rate: float = 1.5e-3
    """Peak learning rate of AdamW, after a warm-up of a twentieth of the steps, then a cosine to zero."""
    closing_rate: float = Field(default=0.2, gt=0, le=1)
    """Peak of the closing passes, as a share of the learning rate, with a warm-up and a cosine of its own."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    batch_positions: int = 1024
    """Training positions a batch."""
    shuffle_ties: float = 0.5
    """Share of windows in which events with equal timestamps are put in a random order: theirs says nothing."""
    token_weight: float = 0.5
    """Weight of the any-order token loss beside the item head's loss of weight 1."""
    distillation: float = Field(default=0.5, ge=0, le=1)
    """How much of a token's target is what the item head believes; the rest is the true item's code."""
    category_weight: float = 0.1
    """Weight of the category loss (lambda in the paper)."""
    token_share: float = 0.5
    """Share of positions that the token decoder is trained on in each batch."""
    memory_folds: int = Field(default=8, ge=2)
    """Into how many parts users are dealt; each learns with the memory of the others, never with its own pairs."""
    depths: tuple[float, ...] = (0.45, 0.35, 0.2)
    """Shares of training paths with 0, 1, 2 ... tokens already chosen; deeper paths name their item almost surely."""


class Pretrainer:
    """One training run: builds batches' losses, steps the optimizer, keeps the best weights by validation."""

    def __init__(
        self, generator: Generator, log: EventLog, category_N: IntArray, config: FitConfig, *, seed: int
    ) -> None:
        self.generator, self.log, self.config, self.seed = generator, log, config, seed
        self.category_N = torch.from_numpy(category_N).to(generator.device)
        codes_NM = generator.codes_NM.cpu().numpy()
        self.index = ValidityIndex(codes_NM, generator.config.codebook_size)
        self.codes_NM = codes_NM
        self.codes_MN = generator.codes_NM.T.contiguous()
        self.unused_X = torch.from_numpy(np.flatnonzero(log.counts_N == 0))
        self.unused_X = self.unused_X.to(generator.device)
        with torch.no_grad():
            generator.item_embedding.weight[self.unused_X] = 0  # what nobody used is its codes and nothing else
        folds_rng = rng_for(seed, "folds")
        self.folds = (
            cross_fit(log, config.memory_folds, folds_rng, generator.memory().likeness)
            if generator.config.memory_pairs
            else [Fold(log=log, memory=Memory(tables=()))]
        )
        self.optimizer = torch.optim.AdamW(
            generator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.batches = sum(1 for _ in self._batches(0))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._share_of_rate())

    @property
    def epochs(self) -> int:
        """How many passes there are, the closing ones included."""
        return self.config.epochs + self.config.closing_epochs

    def _share_of_rate(self) -> Callable[[int], float]:
        """Return the learning rate of a step as a share of the peak: one cosine, then a lower one."""
        main, closing = (self.batches * passes for passes in (self.config.epochs, self.config.closing_epochs))
        first, second = (warm_cosine(total=max(1, steps), warm=max(1, steps // 20)) for steps in (main, closing))
        return lambda step: first(step) if step < main else self.config.closing_rate * second(step - main)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, those of all folds in random order."""
        found = []
        for place, fold in enumerate(self.folds):
            drawn = epoch_batches(
                fold.log,
                max_length=self.generator.shape.max_history,
                positions=self.config.batch_positions,
                rng=rng_for(self.seed, "epoch", epoch, place),
                shuffle_ties=self.config.shuffle_ties,
            )
            found += [replace(batch, fold=place) for batch in drawn]
        for place in rng_for(self.seed, "order", epoch).permutation(len(found)):
            yield found[place]

    def losses(self, batch: Batch, rng: np.random.Generator, *, latest: int | None = None) -> dict[str, Tensor]:
        """Return the three losses of a batch of windows, of all their events or of so many ``latest`` ones."""
        generator = self.generator
        items_BT = torch.from_numpy(batch.items_BT).to(generator.device)
        times_BT = torch.from_numpy(batch.timestamps_BT).to(generator.device)
        vectors_ND = generator.item_vectors()
        states_BTD = generator.encode_prefixes(items_BT[:, :-1], times_BT[:, :-1], vectors_ND)
        from_end_BT = batch.lengths_B[:, None] - np.arange(batch.items_BT.shape[1])
        windows_R, steps_R = np.nonzero((from_end_BT >= 1) & (from_end_BT <= (latest or batch.items_BT.shape[1])))
        row_R, time_R = (torch.from_numpy(axis).to(generator.device) for axis in (windows_R, steps_R))
        state_RD, target_R = states_BTD[row_R, time_R], items_BT[row_R, time_R]
        before_RT = torch.arange(items_BT.shape[1], device=generator.device) < time_R[:, None]
        seen_RT = torch.where(before_RT, items_BT[row_R], target_R[:, None])
        unit_ND = functional.normalize(vectors_ND, dim=-1)
        prefixes = [batch.items_BT[row, :time] for row, time in zip(windows_R, steps_R, strict=True)]
        evidence = self.folds[batch.fold].memory.evidence(prefixes)
        asked = Asked(targets_R=target_R, seen_RT=seen_RT, absent_X=self.unused_X, evidence=evidence)
        queries_RD, weight_K = generator.scaled(state_RD), generator.memory_weight_K
        losses = {"item": item_loss(queries_RD, unit_ND, weight_K, asked)}
        picked_R = np.flatnonzero(rng.random(len(target_R)) < self.config.token_share)
        picked_R = picked_R if len(picked_R) else np.arange(1)
        rows = torch.from_numpy(picked_R).to(state_RD.device)
        beliefs_RN = None
        if self.config.distillation > 0:
            beliefs_RN = item_beliefs(queries_RD[rows], unit_ND, weight_K, asked.take(picked_R))
        return losses | self._path_losses(state_RD[rows], target_R[rows], beliefs_RN, rng)

    def _path_losses(
        self, state_RD: Tensor, target_R: Tensor, beliefs_RN: Tensor | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Return the token and category losses on partial paths to the targets."""
        device = state_RD.device
        paths = draw_partial_paths(self.index, self.codes_NM[target_R.cpu().numpy()], self.config.depths, rng)
        partial_RM = torch.from_numpy(paths.partial_RM).to(device)
        targets_RMK = true_targets(paths).to(device)
        if beliefs_RN is not None:
            implied_RMK = implied_targets(paths, beliefs_RN, self.codes_MN)
            targets_RMK = torch.lerp(targets_RMK, implied_RMK, self.config.distillation)
        logits_RMK, category_RQ = self.generator.step(state_RD, partial_RM)
        allowed_RMK = torch.from_numpy(paths.allowed_RMK).to(device)
        return {
            "token": token_loss(logits_RMK, allowed_RMK, targets_RMK, partial_RM < 0),
            "category": category_loss(category_RQ, self.category_N[target_R]),
        }

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return its mean losses."""
        weights = {"item": 1.0, "token": self.config.token_weight, "category": self.config.category_weight}
        torch.manual_seed(derive_seed(self.seed, "dropout", "training", epoch))
        rng = rng_for(self.seed, "draws", "training", epoch)
        self.generator.train()
        sums = dict.fromkeys(weights, 0.0)
        what = f"epoch {epoch + 1}/{self.epochs}"
        latest = None if epoch < self.config.epochs else self.config.closing_events
        for batch in track(self._batches(epoch), what=what, total=self.batches):
            losses = self.losses(batch, rng, latest=latest)
            total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            sums = {name: sums[name] + float(loss.detach()) for name, loss in losses.items()}
        self.generator.eval()
        return {name: value / self.batches for name, value in sums.items()}

    def save(self, path: Path, epoch: int, best: dict[str, Any]) -> None:
        """Write a checkpoint after an epoch: weights, optimizer, schedule and the best weights so far."""
        state = {
            "epoch": epoch,
            "best": best,
            "weights": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> tuple[int, dict[str, Any]]:
        """Load a checkpoint; returns the next epoch and the best weights so far."""
        state = torch.load(path, weights_only=True)
        self.generator.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return state["epoch"] + 1, state["best"]


def pretrain(
    trainer: Pretrainer, *, validate: Callable[[Generator], float], checkpoint: Path | None = None
) -> list[dict[str, float]]:
    """Train the generator in place, leave the best epoch's weights in it, and return the log of epochs.

    With a checkpoint path, a killed run goes on from its last finished epoch and ends as if it had not been killed.
    """
    first = 0
    best: dict[str, Any] = {"score": -1.0, "weights": {}, "log": []}
    if checkpoint is not None and checkpoint.exists():
        first, best = trainer.restore(checkpoint)
        LOG.info("going on from epoch %d of the checkpoint", first + 1)
    for epoch in range(first, trainer.epochs):
        losses = trainer.run_epoch(epoch)
        score = validate(trainer.generator)
        line = losses | {"validation": score}
        best["log"].append(line)
        LOG.info("epoch %d %s", epoch + 1, "  ".join(f"{name} {value:.4f}" for name, value in line.items()))
        if score > best["score"]:
            best |= {"score": score, "weights": copy.deepcopy(trainer.generator.state_dict())}
        if checkpoint is not None:
            trainer.save(checkpoint, epoch, best)
    trainer.generator.load_state_dict(best["weights"])
    log: list[dict[str, float]] = best["log"]
    return log
