import numpy as np
import pytest
import torch

from pipelines.benches.train import OwnLoop, PaddedLoop, bench_train
from pipelines.benches.training_world import TrainingWorld
from recsys.core.seeds import rng_for
from recsys.model.batches import pack


@pytest.mark.parametrize("everywhere", [True, False])
def test_padded_loop_when_given_our_windows_then_its_item_loss_is_ours(everywhere: bool) -> None:
    world = TrainingWorld.made_up(users=30, items=40)
    trainer = world.trainer()
    loop = PaddedLoop(trainer, everywhere=everywhere)
    trainer.generator.eval()
    batch = pack(loop.log, loop.starts_W[:9], loop.lengths_W[:9])
    with torch.no_grad():
        ours = trainer.objective.item_losses(batch, rng_for(0, "ours"))["item"]
        theirs = loop.losses(loop.starts_W[:9], loop.lengths_W[:9])["item"]
    assert float(ours) == pytest.approx(float(theirs), rel=1e-3)  # ours may multiply in bfloat16


def test_worlds_when_two_loops_start_then_from_the_same_weights() -> None:
    world = TrainingWorld.made_up(users=30, items=40)
    losses = [OwnLoop(world.trainer()).item_loss(), PaddedLoop(world.trainer(), everywhere=False).item_loss()]
    assert losses[0] == losses[1]


def test_bench_when_the_log_is_small_then_it_names_each_peer_with_an_interval() -> None:
    lines = bench_train(users=60, items=40, turns=2)
    ratios = [line for line in lines if line.ratio is not None]
    peers = ["plain padded loop", "padded, logits at targets", "pre-training", *["fp32 in all layers"] * 2]
    assert [line.peer_name for line in ratios] == peers
    assert all(line.ratio_low <= line.ratio <= line.ratio_high for line in ratios)  # type: ignore[operator]
    assert all(np.isfinite(line.ours) for line in lines)
