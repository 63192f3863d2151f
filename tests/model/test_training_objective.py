"""The training objective: which positions and which targets count."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.fit import Pretrainer
from recsys.model.training_objective import TargetWindow, draw_ahead
from tests.support.cycle_world import cycle_log, tiny_generator


def test_draw_ahead_when_some_items_are_missing_then_the_rest_share_by_decay() -> None:
    left = np.array([1, 2, 5]).repeat(20_000)
    drawn = draw_ahead(left, TargetWindow(ahead=3, decay=0.5), np.random.default_rng(0)).reshape(3, -1)
    shares = [np.bincount(row, minlength=3) / 20_000 for row in drawn]
    # one item left: it; two: 1 to .5, so 2/3 and 1/3; three or more: 1 to .5 to .25, so 4/7, 2/7 and 1/7
    np.testing.assert_allclose(shares, [[1, 0, 0], [2 / 3, 1 / 3, 0], [4 / 7, 2 / 7, 1 / 7]], atol=0.02)
    assert not draw_ahead(left, TargetWindow(decay=0.5), np.random.default_rng(0)).any()


def test_losses_when_only_the_latest_events_are_asked_then_are_theirs() -> None:
    log = cycle_log(num_users=6)
    trainer = Pretrainer(tiny_generator(prior=CooccurrencePrior.of(log)), log, np.arange(20) % 3, FitConfig(), seed=3)
    batch = next(trainer.objective.batches(0))

    def item_loss_of(latest: int | None) -> float:
        return trainer.objective.losses(batch, np.random.default_rng(0), TargetWindow(latest=latest))["item"].item()

    lengths_B, every = batch.lengths_B, item_loss_of(None)
    shorter = replace(batch, lengths_B=lengths_B - 1)
    but_last = trainer.objective.losses(shorter, np.random.default_rng(0))["item"].item()
    # the sum over all events is that over the latest ones and that over the rest
    left = (lengths_B - 1).sum()
    assert item_loss_of(1) * len(lengths_B) == pytest.approx(every * lengths_B.sum() - but_last * left, rel=1e-4)
    assert item_loss_of(int(lengths_B.max())) == pytest.approx(every)
