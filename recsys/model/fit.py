"""Pre-training: any-order token loss, category loss and the item head's softmax, all positions of a history at once."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from recsys.core.arrays import IntArray
from recsys.core.device import Precision
from recsys.core.schedule import warm_cosine
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG, track
from recsys.core.training import Training
from recsys.data.events import EventLog
from recsys.model.config import FitConfig
from recsys.model.generator import Generator
from recsys.model.ladq import PrecisionController
from recsys.model.pruning import Pruning
from recsys.model.training_objective import TargetWindow, TrainingObjective


class Pretrainer:
    """One training run: builds batches' losses, steps the optimizer, keeps the best weights by validation."""

    def __init__(  # noqa: PLR0913 (model, log, settings)
        self,
        generator: Generator,
        log: EventLog,
        category_N: IntArray,
        config: FitConfig,
        *,
        seed: int,
        precision: Precision = "auto",
        pruning: Pruning | None = None,
    ) -> None:
        self.generator, self.config, self.seed = generator, config, seed
        self.objective = TrainingObjective(generator, log, category_N, config, seed=seed, precision=precision)
        if pruning is not None:
            self.objective.prune(pruning)
        with torch.no_grad():
            generator.items.id_embedding.weight[self.objective.unused_X] = (
                0  # an item without events is represented by its codes alone
            )
        self.batches = self.objective.count_batches()
        self.training = Training(
            generator,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            share_of_rate=self._share_of_rate(),
            clip=1.0,
        )
        self.controller = PrecisionController(self.objective, config.ladq, seed=seed) if precision == "ladq" else None
        self.training.beside = self.controller

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
        workers = self.training.workers
        rng = workers.own_draws(rng_for(self.seed, "draws", "training", epoch))
        self.generator.train()
        sums = dict.fromkeys(self.objective.weights, 0.0)
        what = f"epoch {epoch + 1}/{self.epochs}"
        latest = None if epoch < self.config.epochs else self.config.final_events
        batches = enumerate(track(self.objective.batches(epoch, workers), what=what, total=self.batches), start=1)
        with nullcontext() if self.controller is None else self.controller.applied():
            for place, batch in batches:
                if self.controller is not None:
                    self.controller.before(batch)
                losses = self.objective.losses(batch, rng, TargetWindow(latest=latest))
                where = f"pre-training, {what}, batch {place} of {self.batches}"
                values = self.step(losses, where, weight=batch.weight)
                sums = {name: sums[name] + value for name, value in values.items()}
        self.generator.eval()
        return {name: value / self.batches for name, value in sums.items()}

    def step(self, losses: dict[str, Tensor], where: str, *, weight: float = 1.0) -> Mapping[str, float]:
        """Train on the losses of one batch, or of a worker's share of it, and return the batch's as numbers."""
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        return self.training.step(self.objective.total(losses), values, where, weight=weight)


def pretrain(
    trainer: Pretrainer, *, validate: Callable[[Generator], float], checkpoint: Path | None = None
) -> list[dict[str, float]]:
    """Train the generator in place, leave the best epoch's weights in it, and return the log of epochs.

    With a checkpoint path, a killed run goes on from its last finished epoch and ends as if it had not been killed.
    """
    training = trainer.training
    if training.restore(checkpoint):
        LOG.info("going on from epoch %d of the checkpoint", training.epochs_done + 1)
    for epoch in range(training.epochs_done, trainer.epochs):
        losses = trainer.run_epoch(epoch)
        workers = training.workers
        score = workers.of_first(validate(trainer.generator) if workers.first else None)
        line = losses | {"validation": score}
        training.log.append(line)
        LOG.info("epoch %d %s", epoch + 1, "  ".join(f"{name} {value:.4f}" for name, value in line.items()))
        training.keep_if_best(score)
        training.epochs_done = epoch + 1
        if checkpoint is not None:
            training.save(checkpoint)
    training.take_best()
    return training.log
