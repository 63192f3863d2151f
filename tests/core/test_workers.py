"""Workers that train together take the steps of one that trains alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recsys.alignment.config import SupervisedConfig
from recsys.alignment.harness import own_prompts
from recsys.core.errors import CallError, TrainingError
from recsys.core.training import Training
from recsys.core.workers import ALONE, Workers
from recsys.model.config import FitConfig
from recsys.model.fit import Pretrainer, pretrain
from recsys.model.tokens.config import TokenFitConfig
from recsys.model.tokens.fit import NextItemLoss
from recsys.sequence.id_training import fit_id_transformer
from recsys.sequence.id_transformer import IdTransformerConfig, score_histories
from recsys.sequence.training import TrainingConfig, train_best_epoch
from tests.support.alignment_world import CONFIG, circle, run
from tests.support.cycle_world import cycle_log, log_of, tiny_generator
from tests.support.gang import together
from tests.support.tiny_tokens import tiny_model

POINTS, TARGETS = np.array([[1.0], [2.0], [4.0], [3.0], [5.0]], np.float32), np.array([1, 2, 0, 3, 1])
ALIGNMENT = CONFIG.model_copy(
    update={"save_every": 2, "supervised": SupervisedConfig(weight=1.0), "prompts_per_step": 3}
)
SASREC = IdTransformerConfig(width=8, heads=1, layers=1, dropout=0.0, negatives=0, epochs=3, batch_positions=60)


def line() -> nn.Linear:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    return network


def training(network: nn.Module) -> Training:
    return Training(network, learning_rate=0.1, weight_decay=0.0, share_of_rate=lambda _: 1.0)


def take_step(one: Training, rows: np.ndarray) -> tuple[float, float]:
    """Step on the mean over all targets of the network's output, each row counted as often as it has targets."""
    mine = one.workers.share(rows, TARGETS[rows])
    count = torch.from_numpy(np.maximum(TARGETS[mine.rows], 1)).float()
    loss = (one.network(torch.from_numpy(POINTS[mine.rows])).squeeze(1) * count).sum() / count.sum()
    parts = one.step(loss, {"loss": float(loss.detach())}, "a test", weight=mine.weight)
    return parts["loss"], next(one.network.parameters()).grad.item()


def sasrec_scores() -> list[list[float]]:
    log = cycle_log()
    network = fit_id_transformer(log, SASREC, seed=3, name="sasrec", device=torch.device("cpu"), precision="fp32")
    return score_histories(network, SASREC, [log.history(user) for user in range(4)]).tolist()


def loss_curve() -> list[float]:
    config = FitConfig(epochs=3, final_epochs=1, batch_positions=64)
    trainer = Pretrainer(tiny_generator(), cycle_log(), np.arange(20) % 3, config, seed=3)
    return [epoch["item"] for epoch in pretrain(trainer, validate=lambda _: 0.0)]


def work(folder: Path) -> dict[str, Any]:
    """All that is asked of two workers, in one go: they take seconds to start."""
    found: dict[str, Any] = {"uneven": take_step(training(line()), np.arange(5))}
    found["one row"] = take_step(training(line()), np.array([3]))
    here = Workers.here()
    apart = nn.Linear(1, 1, bias=False)
    nn.init.constant_(apart.weight, float(here.rank))
    found["alike"] = training(apart).network.weight.item()
    held = training(line())
    held.epochs_done = 7
    held.save(folder / "c.pt")  # the first worker writes, so the other one sees no file
    restored = training(line())
    found["restored"] = (restored.restore(folder / "c.pt"), restored.epochs_done)
    restored.save(folder / "again.pt")
    found["wrote"] = (folder / "again.pt").exists()
    try:
        bad = torch.tensor(float("nan") if here.first else 1.0, requires_grad=True)
        restored.step(bad, {"loss": float(bad.detach())}, "epoch 1", weight=0.5)
    except TrainingError as error:
        found["refused"] = str(error)
    asked: list[int] = []

    def validate() -> float:
        asked.append(1)
        return float(len(asked))

    config = TrainingConfig(epochs=2, validate_every=1)
    network = line()
    train_best_epoch(
        network,
        config,
        np.random.default_rng(0),
        lengths=np.array([2, 2, 2]),
        loss=lambda *_: network.weight.sum(),
        validate=validate,
        name="toy",
    )
    generator, log = circle()
    report = run((generator, log), ALIGNMENT, folder)
    found["alignment"] = (len(report.steps), float(generator.items.id_embedding.weight.sum()))
    found["checkpoints"] = len(list(folder.glob("checkpoint-*")))
    return found | {"validations": len(asked), "sasrec": sasrec_scores(), "curve": loss_curve()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return together(work, tmp_path_factory.mktemp("workers"))


def test_gradient_when_two_workers_have_uneven_shares_then_is_that_of_the_whole_batch(
    found: list[dict[str, Any]],
) -> None:
    # rows with 1, 2, 0, 3 and 1 targets and points 1, 2, 4, 3 and 5: (1*1 + 2*2 + 3*3 + 1*5) / 7 = 19/7
    assert [one["uneven"] for one in found] == [pytest.approx((19 / 7, 19 / 7), abs=1e-6)] * 2


def test_gradient_when_there_are_fewer_rows_than_workers_then_the_rest_add_nothing(found: list[dict[str, Any]]) -> None:
    assert [one["one row"] for one in found] == [pytest.approx((3.0, 3.0), abs=1e-6)] * 2


def test_weights_when_workers_began_with_different_ones_then_all_have_the_first_ones(
    found: list[dict[str, Any]],
) -> None:
    assert [one["alike"] for one in found] == [0.0, 0.0]


def test_checkpoint_when_only_the_first_worker_sees_it_then_all_go_on_from_it_and_one_writes(
    found: list[dict[str, Any]],
) -> None:
    assert [one["restored"] for one in found] == [(True, 7), (True, 7)]
    assert [one["wrote"] for one in found] == [True, False]


def test_step_when_one_workers_loss_is_no_number_then_all_refuse_it(found: list[dict[str, Any]]) -> None:
    assert ["epoch 1: a loss must be finite" in one["refused"] for one in found] == [True, True]


def test_validation_when_two_workers_train_then_the_first_alone_validates(found: list[dict[str, Any]]) -> None:
    assert [one["validations"] for one in found] == [2, 0]


def test_member_when_two_workers_train_it_without_draws_then_its_scores_are_those_of_one(
    found: list[dict[str, Any]],
) -> None:
    alone = sasrec_scores()
    for one in found:  # the order of sums differs, and AdamW makes steps of equal length of the smallest gradients
        np.testing.assert_allclose(one["sasrec"], alone, atol=0.02)


def test_pretraining_when_two_workers_train_then_the_loss_curve_is_that_of_one(found: list[dict[str, Any]]) -> None:
    assert found[0]["curve"] == found[1]["curve"]
    # it falls from 7.5 to 4.3; dropout and the drawn partial paths differ, which on 40 users is worth some percent
    np.testing.assert_allclose(found[0]["curve"], loss_curve(), rtol=0.12)


def test_alignment_when_two_workers_take_its_steps_then_both_end_with_one_model_and_one_wrote(
    found: list[dict[str, Any]],
) -> None:
    assert found[0]["alignment"] == found[1]["alignment"]
    assert found[0]["alignment"][0] == ALIGNMENT.steps
    assert [one["checkpoints"] for one in found] == [2, 0]


def test_alignment_when_there_are_more_workers_than_prompts_then_says_what_to_change() -> None:
    config = ALIGNMENT.model_copy(update={"prompts_per_step": 3})
    assert [own_prompts(config, Workers(rank=rank, count=2)) for rank in range(2)] == [2, 1]
    with pytest.raises(CallError, match="prompts_per_step must be at least the number of workers, got 3 for 4"):
        own_prompts(config, Workers(rank=0, count=4))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_item_loss_when_a_batch_is_shared_then_the_weighted_losses_add_up(count: int) -> None:
    log = log_of([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9], [1, 3, 5, 7], [2, 4, 6], [8, 9]], 10)
    objective = Pretrainer(tiny_generator(10), log, np.arange(10) % 3, FitConfig(batch_positions=12), seed=1).objective
    shares = [list(objective.batches(0, Workers(rank=rank, count=count))) for rank in range(count)]
    for place, whole in enumerate(objective.batches(0)):
        parts = [
            batch.weight * objective.item_losses(batch, np.random.default_rng(0))["item"].item()
            for batch in (batches[place] for batches in shares)
        ]
        wanted = objective.item_losses(whole, np.random.default_rng(0))["item"].item()
        assert sum(parts) == pytest.approx(wanted, rel=1e-5)


def test_token_loss_when_a_batch_is_shared_then_the_weighted_losses_add_up() -> None:
    log = log_of([[0, 1, 2, 3, 4, 5, 6, 7, 8], [5, 6], [7], [1, 3, 5, 7], [2, 4, 6], [8, 9]], 20)
    loss = NextItemLoss(tiny_model(), log, TokenFitConfig(shuffle_ties=0.0))
    rows, targets = np.arange(len(loss.windows.lengths_W)), loss.windows.targets_W
    parts = []
    for rank in range(2):
        mine = Workers(rank=rank, count=2).share(rows, targets)
        parts.append(mine.weight * loss(mine.rows, np.random.default_rng(0)).item())
    assert sum(parts) == pytest.approx(loss(rows, np.random.default_rng(0)).item(), rel=1e-5)


def test_share_when_alone_then_is_the_batch_itself() -> None:
    rows = np.arange(4)
    assert ALONE.share(rows, np.zeros(4, int)).rows is rows
    assert Workers.here() == ALONE
