"""Pre-training: any-order token loss, category loss and the item head's softmax, all positions of a history at once."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recsys.core.arrays import IntArray
from recsys.core.device import Precision
from recsys.core.finite import require_finite
from recsys.core.schedule import warm_cosine
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG, track
from recsys.data.events import EventLog
from recsys.model.config import FitConfig
from recsys.model.generator import Generator
from recsys.model.training_objective import TrainingObjective


class Pretrainer:
    """One training run: builds batches' losses, steps the optimizer, keeps the best weights by validation."""

    def __init__(
        self,
        generator: Generator,
        log: EventLog,
        category_N: IntArray,
        config: FitConfig,
        *,
        seed: int,
        precision: Precision = "auto",
    ) -> None:
        self.generator, self.config, self.seed = generator, config, seed
        self.objective = TrainingObjective(generator, log, category_N, config, seed=seed, precision=precision)
        with torch.no_grad():
            generator.items.id_embedding.weight[self.objective.unused_X] = (
                0  # an item without events is represented by its codes alone
            )
        self.optimizer = torch.optim.AdamW(
            generator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.batches = sum(1 for _ in self.objective.batches(0))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._share_of_rate())

    @property
    def epochs(self) -> int:
        """How many passes there are, the final phase included."""
        return self.config.epochs + self.config.final_epochs

    def _share_of_rate(self) -> Callable[[int], float]:
        """Return the learning rate of a step as a share of the peak: one cosine, then a lower one."""
        main, final = (self.batches * passes for passes in (self.config.epochs, self.config.final_epochs))
        first, second = (warm_cosine(total=max(1, steps), warm=max(1, steps // 20)) for steps in (main, final))
        return lambda step: first(step) if step < main else self.config.final_rate * second(step - main)

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return its mean losses."""
        torch.manual_seed(derive_seed(self.seed, "dropout", "training", epoch))
        rng = rng_for(self.seed, "draws", "training", epoch)
        self.generator.train()
        sums = dict.fromkeys(self.objective.weights, 0.0)
        what = f"epoch {epoch + 1}/{self.epochs}"
        latest = None if epoch < self.config.epochs else self.config.final_events
        for place, batch in enumerate(track(self.objective.batches(epoch), what=what, total=self.batches), start=1):
            losses = self.objective.losses(batch, rng, latest=latest)
            values = {name: float(loss.detach()) for name, loss in losses.items()}
            require_finite(values, f"pre-training, {what}, batch {place} of {self.batches}")
            self.optimizer.zero_grad(set_to_none=True)
            self.objective.total(losses).backward()
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            sums = {name: sums[name] + value for name, value in values.items()}
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
