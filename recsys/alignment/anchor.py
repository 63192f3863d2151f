"""The supervised side of alignment: beside the rewards, what the log says and what the whole recommender foresees."""

from typing import Any

from torch import Tensor

from recsys.alignment.config import AlignmentConfig
from recsys.core.seeds import rng_for
from recsys.model.batches import Batch
from recsys.model.generator import Generator
from recsys.model.lessons import Lessons


class Anchor:
    """A supervised loss for every gradient step; each step takes the next batch of windows of the training log.

    Positions answer with an item of their window, as rewards judge paths against it. ``judge`` is what was served
    before alignment, companion included; it stays as it is.
    """

    def __init__(self, lessons: Lessons, judge: Generator, config: AlignmentConfig) -> None:
        self.lessons, self.judge, self.config = lessons, judge, config
        self.passed, self.batches = 0, list(lessons.batches(0))
        self.steps_a_pass = len(self.batches)

    def __call__(self, step: int) -> Tensor:
        """Return the weighted loss of a step, read with dropout."""
        batch, lessons = self._batch(step), self.lessons
        was_training = lessons.generator.training
        lessons.generator.train()
        config, rng = self.config, rng_for(lessons.seed, "anchor", step)
        known = lessons.losses(
            batch, rng, latest=config.anchor.latest_events, ahead=config.window, decay=config.decay, paths=False
        )
        loss = lessons.total(known)
        if config.anchor.foresight > 0 and batch.closed_B.any():
            loss = loss + config.anchor.foresight * lessons.total(lessons.foresight(batch, self.judge, rng))
        lessons.generator.train(was_training)
        return config.anchor.weight * loss

    def _batch(self, step: int) -> Batch:
        """Return a step's batch, whatever was asked before; every pass over the log has an order of its own."""
        wanted, place = divmod(step, self.steps_a_pass)
        if wanted != self.passed:
            self.passed, self.batches = wanted, list(self.lessons.batches(wanted))
        return self.batches[place % len(self.batches)]


class Anchored:
    """What adds an anchor's loss to that of one of trl's trainers, and logs it."""

    anchor: Anchor | None = None
    supervised: float | None = None

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """Return the trainer's loss, and the anchor's on top of it."""
        loss = super().compute_loss(model, inputs, *rest, **named)  # type: ignore[misc]
        if self.anchor is None:
            return loss
        supervised = self.anchor(self.state.global_step)  # type: ignore[attr-defined]
        self.supervised = float(supervised.detach())
        return loss + supervised

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step with the supervised part of its loss."""
        told = {} if self.supervised is None else {"supervised": self.supervised}
        super().log(logs | told, start_time)  # type: ignore[misc]
