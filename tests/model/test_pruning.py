"""Training on a part of the log, and learning from a teacher meanwhile."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys.core.errors import ConfigError
from recsys.core.seeds import rng_for
from recsys.model.config import FitConfig, PruningConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.difficulty import difficulties
from recsys.model.fit import Pretrainer
from recsys.model.losses import item_softmax
from recsys.model.pruning import Pruning, Teacher, plan_pruning
from recsys.model.training_objective import TrainingObjective
from tests.support.cycle_world import cycle_log, log_of, tiny_generator

CATEGORIES = np.arange(20) % 3


def test_plan_pruning_when_users_are_preferred_then_the_wanted_share_is_kept() -> None:
    difficulty_U = np.array([3.0, np.nan, 1.0, 2.0, 5.0])
    # half of the four users with events
    for prefer, wanted in (("hard", [True, False, False, False, True]), ("easy", [False, False, True, True, False])):
        config = PruningConfig(keep=0.5, prefer=prefer, teacher="run")
        assert plan_pruning(config, difficulty_U, None, seed=1).kept_U.tolist() == wanted
    drawn = plan_pruning(PruningConfig(keep=0.5, prefer="random"), difficulty_U, None, seed=1).kept_U
    assert drawn.sum() == 2
    assert not drawn[1]


def test_pruning_config_when_nobody_says_who_is_difficult_then_is_refused() -> None:
    with pytest.raises(ValidationError, match="teacher must name a run"):
        PruningConfig(keep=0.5, prefer="hard")
    with pytest.raises(ValidationError, match="teacher must name a run"):
        PruningConfig(distillation=0.5)


@pytest.mark.parametrize("with_prior", [False, True])
def test_difficulties_when_summed_then_are_the_loss_of_all_events(with_prior: bool) -> None:
    log = cycle_log(num_users=12)
    generator = tiny_generator(prior=CooccurrencePrior.of(log) if with_prior else None)
    objective = TrainingObjective(generator, log, CATEGORIES, FitConfig(shuffle_ties=0), seed=3, precision="fp32")
    found = difficulties(objective)
    assert found.shape == (12,)
    total = count = 0.0
    with torch.no_grad():
        for batch in objective.batches(0):
            loss = objective.item_losses(batch, rng_for(0, "any"))["item"].item()
            total, count = total + loss * batch.lengths_B.sum(), count + batch.lengths_B.sum()
    assert np.average(found, weights=log.lengths_U) == pytest.approx(total / count, rel=1e-3)


def test_difficulties_when_users_have_no_events_then_are_nan_and_others_keep_their_places() -> None:
    log = log_of([[], [1, 2, 3], [], [4, 5], []], 20)
    objective = TrainingObjective(tiny_generator(), log, CATEGORIES, FitConfig(), seed=3, precision="fp32")
    assert np.isnan(difficulties(objective)).tolist() == [True, False, True, False, True]


def test_prune_when_users_are_left_out_then_batches_hold_the_others_events() -> None:
    log = log_of([[1, 2, 3], [4, 5, 6], [7, 8]], 20)
    pruning = Pruning(kept_U=np.array([True, False, True]))
    trainer = Pretrainer(tiny_generator(), log, CATEGORIES, FitConfig(), seed=3, pruning=pruning)
    met = [
        batch.items_BT[row, :length].tolist()
        for batch in trainer.objective.batches(0)
        for row, length in enumerate(batch.lengths_B)
    ]
    assert sorted(met) == [[1, 2, 3], [7, 8]]
    # items of those left out stay in the softmax: they were used
    assert not np.isin([4, 5, 6], trainer.objective.unused_X.numpy()).any()


def test_distillation_when_trained_then_targets_mix_the_next_item_with_the_teachers_probabilities() -> None:
    log = cycle_log(num_users=12)
    teacher = tiny_generator(seed=5)
    pruning = Pruning(kept_U=np.ones(12, dtype=bool), teacher=Teacher(teacher, 0.25))
    trainer = Pretrainer(tiny_generator(), log, CATEGORIES, FitConfig(), seed=3, precision="fp32", pruning=pruning)
    met = {}
    trainer.objective.watch = lambda terms, queries: met.update(terms=terms, queries=queries)
    own = TrainingObjective(teacher, log, CATEGORIES, FitConfig(), seed=3, precision="fp32")
    own.watch = lambda terms, queries: met.update(teacher=item_softmax(terms, queries))
    batch = next(trainer.objective.batches(0))
    with torch.no_grad():
        own.item_losses(batch, np.random.default_rng(0))
        got = trainer.objective.item_losses(batch, np.random.default_rng(0))["item"].item()
    target = torch.nn.functional.one_hot(met["queries"].targets_R, 20)
    mixed = 0.25 * met["teacher"] + 0.75 * target
    log_probs = item_softmax(met["terms"], met["queries"]).clamp(min=1e-30).log()
    assert got == pytest.approx(-(mixed * log_probs).sum(1).mean().item(), rel=1e-4)


def test_prune_when_the_teacher_reads_another_prior_then_is_refused() -> None:
    log = cycle_log(num_users=6)
    teacher = Teacher(tiny_generator(prior=CooccurrencePrior.of(log)), 0.5)
    pruning = Pruning(kept_U=np.ones(6, dtype=bool), teacher=teacher)
    with pytest.raises(ConfigError, match="must have 0 tables of the co-occurrence prior as the student, got 3"):
        Pretrainer(tiny_generator(), log, CATEGORIES, FitConfig(), seed=3, pruning=pruning)
