"""The sampled softmax over a shortlist of items, against the exact one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.fit import Pretrainer
from recsys.model.item_head import LogitTerms
from recsys.model.losses import ItemQueries, item_loss
from recsys.model.shortlist import Shortlist
from recsys.model.training_objective import TargetWindow
from recsys.sequence.negatives import Drawn
from tests.support.cycle_world import cycle_log, tiny_generator

SURE = 5000
"""Draws among 20 items, after which the odds that one is missing are e^-125."""


def test_places_when_items_are_missing_then_are_minus_one() -> None:
    drawn = Drawn(items_Y=np.array([2, 7]), log_expected_Y=np.array([-0.5, -1.5], np.float32))
    near = Shortlist.of(np.array([[7, 3], [3, 11]]), drawn, torch.device("cpu"))
    assert near.items_X.tolist() == [2, 3, 7, 11]
    assert near.correction_X.tolist() == [-0.5, float("inf"), -1.5, float("inf")]
    assert near.places(torch.tensor([[11, 2], [5, 12]])).tolist() == [[3, 0], [-1, -1]]


def test_item_loss_when_logits_are_corrected_then_all_but_the_targets_are() -> None:
    # logits 1, 2, 3 and target 1, item 0 drawn with a log expectation of -1, item 2 not drawn:
    # the softmax is over 1 - -1 = 2 and the target's own 2, so the loss is log 2
    terms = LogitTerms(
        queries_BD=torch.ones(1, 1),
        keys_ND=torch.tensor([[1.0], [2.0], [3.0]]),
        bias_N=torch.zeros(3),
        weight_J=torch.zeros(0),
    )
    queries = ItemQueries(
        targets_R=torch.tensor([1]),
        seen_RT=torch.tensor([[1]]),
        absent_X=torch.zeros(0, dtype=torch.long),
        correction_N=torch.tensor([-1.0, -7.0, float("inf")]),
    )
    assert item_loss(terms, queries).item() == pytest.approx(np.log(2))


def test_losses_when_every_item_is_drawn_then_are_those_of_the_exact_softmax() -> None:
    log = cycle_log(num_users=8)
    exact, sampled = (
        Pretrainer(
            tiny_generator(prior=CooccurrencePrior.of(log)),
            log,
            np.arange(20) % 3,
            FitConfig(sampled_above=above, sampled=SURE),
            seed=3,
            precision="fp32",
        )
        for above in (20, 19)
    )
    sampled.generator.load_state_dict(exact.generator.state_dict())
    batch = next(exact.objective.batches(0))
    exact_rng, sampled_rng = np.random.default_rng(0), np.random.default_rng(0)
    exact_rng.random(SURE)  # what the other draws items with
    gradients = []
    for trainer, rng in ((exact, exact_rng), (sampled, sampled_rng)):
        trainer.generator.eval()
        losses = trainer.objective.losses(batch, rng)
        trainer.objective.total(losses).backward()
        gradients.append((losses, trainer.generator.items.id_embedding.weight.grad))
    (losses, gradient), (same, same_gradient) = gradients
    for name, loss in losses.items():
        assert same[name].item() == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-3, atol=1e-6)


def test_losses_when_few_items_are_drawn_then_the_mean_normaliser_is_that_of_all_items() -> None:
    # exp(loss) of one row is its normaliser over e^logit of the target, so its mean over draws is the exact one
    log = cycle_log(num_users=8)
    generator = tiny_generator(prior=CooccurrencePrior(tables=()))
    settings = {"seed": 3, "precision": "fp32"}
    exact = Pretrainer(generator, log, np.arange(20) % 3, FitConfig(), **settings)
    few = Pretrainer(generator, log, np.arange(20) % 3, FitConfig(sampled_above=1, sampled=30), **settings)
    generator.eval()
    batch, rng = next(exact.objective.batches(0)), np.random.default_rng(0)
    row = {name: getattr(batch, name)[:1] for name in ("items_BT", "timestamps_BT", "lengths_B", "closed_B")}
    batch = replace(batch, **row)
    with torch.no_grad():
        wanted, *got = (
            trainer.objective.item_losses(batch, rng, TargetWindow(latest=1))["item"].item()
            for trainer in (exact, *[few] * 800)
        )
    assert np.std(got) > 0.01
    assert np.exp(got).mean() == pytest.approx(np.exp(wanted), rel=0.1)
