"""The supervised side of alignment: the training objective and self-distillation beside the rewards."""

from typing import Any

from torch import Tensor

from recsys.alignment.config import AlignmentConfig
from recsys.alignment.self_distillation import open_ends, self_distillation_losses
from recsys.core.finite import require_finite
from recsys.core.seeds import rng_for
from recsys.core.workers import ALONE, Workers, weighted
from recsys.model.batches import Batch
from recsys.model.generator import Generator
from recsys.model.training_objective import TargetWindow, TrainingObjective


class SupervisedLoss:
    """A supervised loss for every gradient step; each step takes the next batch of windows of the training log.

    The target of a position is an item of its window, which is what rewards compare paths with. ``teacher`` is the
    recommender before alignment, ensemble members included; it is not changed. Of several workers each has its share
    of every batch.
    """

    def __init__(self, objective: TrainingObjective, teacher: Generator, config: AlignmentConfig) -> None:
        self.objective, self.teacher, self.config = objective, teacher, config
        self.workers = Workers.here()
        self.passed, self.batches = 0, list(objective.batches(0, self.workers))
        self.steps_a_pass = len(self.batches)

    def __call__(self, step: int) -> Tensor:
        """Return the weighted loss of a step, read with dropout, as its part of the whole batch's."""
        batch, objective = self._batch(step), self.objective
        was_training = objective.generator.training
        objective.generator.train()
        config, rng = self.config, rng_for(objective.seed, "anchor", step)
        window = TargetWindow(latest=config.supervised.latest_events, ahead=config.window, decay=config.decay)
        known = objective.item_losses(batch, rng, window)
        loss = objective.total(known)
        if config.supervised.self_distillation > 0 and len(open_ends(objective, batch)):
            loss = loss + config.supervised.self_distillation * objective.total(
                self_distillation_losses(objective, batch, self.teacher, rng)
            )
        objective.generator.train(was_training)
        return weighted(config.supervised.weight * loss, batch.weight)

    def _batch(self, step: int) -> Batch:
        """Return a step's batch, the same in whatever order steps come; every pass over the log has its own order."""
        wanted, place = divmod(step, self.steps_a_pass)
        if wanted != self.passed:
            self.passed, self.batches = wanted, list(self.objective.batches(wanted, self.workers))
        return self.batches[place % len(self.batches)]


class SharedStep:
    """A step of one of trl's trainers that several workers take together.

    Each worker has a trainer of trl's of its own, and a share of the prompts; its loss is weighted by that
    share, and gradients are added up before the optimizer's step.
    """

    workers: Workers = ALONE
    share: float = 1.0
    """Which part of a step's prompts this worker has."""

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """Return the trainer's loss as its part of the whole step's."""
        return weighted(super().compute_loss(model, inputs, *rest, **named), self.share)  # type: ignore[misc]

    def training_step(self, *inputs: Any, **named: Any) -> Any:
        """Compute gradients and add up those of all workers, and their losses."""
        loss = super().training_step(*inputs, **named)  # type: ignore[misc]
        if self.workers.alone:
            return loss
        self.workers.add_gradients(self.model.parameters())  # type: ignore[attr-defined]
        return loss.new_tensor(self.workers.added({"loss": float(loss)}, 1.0, loss.device)["loss"])


class WithSupervisedLoss(SharedStep):
    """Adds a supervised loss to that of one of trl's trainers, and logs it."""

    supervised_loss: SupervisedLoss | None = None
    supervised_value: float | None = None

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """Return the trainer's loss, and the supervised loss on top of it."""
        loss = super().compute_loss(model, inputs, *rest, **named)
        if self.supervised_loss is None:
            require_finite({"loss": float(loss.detach())}, f"alignment, step {self.state.global_step + 1}")  # type: ignore[attr-defined]
            return loss
        supervised = self.supervised_loss(self.state.global_step)  # type: ignore[attr-defined]
        self.supervised_value = self.workers.added({"": float(supervised.detach())}, 1.0, supervised.device)[""]
        require_finite(
            {"loss": float(loss.detach()), "supervised": self.supervised_value},
            f"alignment, step {self.state.global_step + 1}",  # type: ignore[attr-defined]
        )
        return loss + supervised

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step with the supervised part of its loss."""
        logged = {} if self.supervised_value is None else {"supervised": self.supervised_value}
        super().log(logs | logged, start_time)  # type: ignore[misc]
