"""Self-distillation against a frozen teacher."""

import numpy as np
import torch

from recsys.alignment.self_distillation import open_ends, self_distillation_losses
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.training_objective import TrainingObjective
from tests.support.cycle_world import cycle_log, log_of, tiny_generator


def test_self_distillation_when_the_teacher_is_the_model_itself_then_is_its_entropy_and_teaches_nothing() -> None:
    log = cycle_log(num_users=6)
    generator = tiny_generator(prior=CooccurrencePrior.of(log))
    objective = TrainingObjective(generator, log, np.arange(20) % 3, FitConfig(), seed=3)
    batch = next(objective.batches(0))
    itself = self_distillation_losses(objective, batch, generator, np.random.default_rng(0))["item"]
    itself.backward()
    # bfloat16 products keep 8 bits, so the gradient is nothing beside that of another teacher's probabilities
    same_teacher = generator.items.id_embedding.weight.grad.norm().item()
    generator.zero_grad()
    other = tiny_generator(seed=1, prior=CooccurrencePrior.of(log))
    self_distillation_losses(objective, batch, other, np.random.default_rng(0))["item"].backward()
    assert same_teacher < 0.2 * generator.items.id_embedding.weight.grad.norm().item()
    # 20 items, 6 or fewer of them had: an entropy between nothing and that of a guess among all
    assert 0 < itself.item() < np.log(20)


def test_self_distillation_when_a_user_has_every_item_then_losses_and_gradients_are_finite() -> None:
    crawler = [*range(20), 0, 1]
    log = log_of([crawler, *[[(start + step) % 20 for step in range(6)] for start in range(12)]], 20)
    generator = tiny_generator()
    generator.shape = generator.shape.model_copy(update={"max_history": 30})
    objective = TrainingObjective(generator, log, np.arange(20) % 3, FitConfig(batch_positions=64), seed=3)
    seen = 0
    for batch in objective.batches(0):
        whole = [len(np.unique(batch.items_BT[row, :length])) == 20 for row, length in enumerate(batch.lengths_B)]
        seen += sum(whole)
        rows = open_ends(objective, batch)
        assert not np.array(whole)[rows].any()
        if len(rows):
            losses = self_distillation_losses(objective, batch, generator, np.random.default_rng(0))
            objective.total(losses).backward()
    assert seen == 1
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in generator.parameters())
