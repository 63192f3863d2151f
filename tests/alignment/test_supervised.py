"""The supervised loss beside the rewards."""

import shutil

import numpy as np
import pytest
import torch

from recsys.alignment.align import align
from recsys.alignment.config import RewardWeights, SupervisedConfig
from recsys.alignment.supervised import SupervisedLoss
from recsys.contracts import History
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.training_objective import TrainingObjective
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig
from tests.support.alignment_world import CONFIG
from tests.support.cycle_world import cycle_log, tiny_generator

pytestmark = pytest.mark.usefixtures("one_thread")


def supervised(folder, *, steps=8, **update):
    """Align a small real generator with a member by the supervised loss and return it with the report."""
    log = cycle_log()
    generator = tiny_generator(prior=CooccurrencePrior.of(log))
    torch.manual_seed(9)
    config = IdTransformerConfig(width=8, layers=1, heads=1, max_length=6)
    generator.set_members([(IdTransformer(config, 20), config)], torch.zeros(0, dtype=torch.long))
    generator.config.member_share = 0.3
    update = {
        "steps": steps,
        "save_every": 4,
        "supervised": SupervisedConfig(weight=1.0),
        "learning_rate": 0.01,
    } | update
    codewords_MKD = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    report = align(
        generator,
        log,
        config=CONFIG.model_copy(update=update),
        seed=3,
        codewords_MKD=codewords_MKD,
        category_N=np.arange(20) % 3,
        folder=folder,
        fit=FitConfig(batch_positions=32),
    )
    return generator, log, report


NO_REWARD = RewardWeights(step=0, category=0, consistency=0, path=0)


@pytest.mark.parametrize("method", ["grpo", "dpo"])
def test_align_when_supervised_then_a_killed_run_goes_on_and_the_member_is_as_it_was(tmp_path, method):
    whole, _, _ = supervised(tmp_path / "whole", method=method)
    wanted = {name: value.clone() for name, value in whole.state_dict().items()}
    supervised(tmp_path / "cut", method=method)
    shutil.rmtree(tmp_path / "cut" / "checkpoint-8")  # as if it had been killed after step 4
    again, _, report = supervised(tmp_path / "cut", method=method)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=0)
    assert [step["step"] for step in report.steps] == list(range(1, 9))
    assert all(0 < step["supervised"] < step["loss"] + 1 for step in report.steps)
    torch.manual_seed(9)
    fresh = IdTransformer(IdTransformerConfig(**again.config.members[0]), 20)
    torch.testing.assert_close(again.head.members.networks[0].items.weight, fresh.items.weight)
    assert again.config.member_share == 0.3


def test_align_when_only_supervised_then_learns_what_the_log_says(tmp_path):
    generator, log, report = supervised(tmp_path, steps=60, weights=NO_REWARD)
    assert report.flat_group_rate == 1.0
    before = tiny_generator(prior=CooccurrencePrior.of(log))
    items = np.array([4, 5, 6])
    history = History(items=items, timestamps=items * 3600)
    with torch.inference_mode():
        told = [one.item_log_probs(one.encode([history]), [items])[0, 7].item() for one in (before, generator)]
    assert told[1] > told[0] + 0.2


def test_supervised_loss_when_steps_come_out_of_order_then_a_step_has_the_same_batch():
    log = cycle_log()
    objective = TrainingObjective(tiny_generator(), log, np.arange(20) % 3, FitConfig(batch_positions=32), seed=3)
    supervised_loss = SupervisedLoss(objective, objective.generator, CONFIG)
    far = 2 * supervised_loss.steps_a_pass + 1
    late = supervised_loss._batch(far).items_BT
    early = supervised_loss._batch(1).items_BT
    assert np.array_equal(supervised_loss._batch(far).items_BT, late)
    assert np.array_equal(supervised_loss._batch(1).items_BT, early)
    # a pass names every event once
    events = sum(supervised_loss._batch(step).lengths_B.sum() for step in range(supervised_loss.steps_a_pass))
    assert events == len(log.items_E)
