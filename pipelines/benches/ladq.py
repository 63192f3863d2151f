"""Bench ladq: pre-training with precision chosen layer by layer, beside fp32 and bf16 in all layers, over some seeds.

All learn a run's log and codes by its recipe, seed by seed from the same weights; the co-occurrence prior is left out.
The last epoch's item head ranks for the test's users, seen items removed.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipelines.benches.measure import Line, beside
from pipelines.benches.training_world import TrainingWorld
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions
from recsys.model.calibrate import item_head_ndcg
from recsys.model.fit import Pretrainer
from recsys.model.precision import LinearLayers

SEEDS = (1, 2, 3)
FP32, BF16, LADQ = "fp32 in all layers", "bf16 in all layers", "ladq"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Processor seconds of one training without validation, its NDCG@10, and the share of layers in bf16 at its end."""

    seconds: float
    ndcg: float
    low: float


def bench_ladq(run: Path, *, seeds: tuple[int, ...] = SEEDS) -> list[Line]:
    """Return NDCG@10 and processor seconds of training in each precision, means over the seeds, beside fp32."""
    torch.set_num_threads(1)
    world = TrainingWorld.of_run(run)
    queries = questions(load_prepared(run / "data").log, "test")
    found: dict[str, list[Trained]] = {name: [] for name in (FP32, BF16, LADQ)}
    for seed in seeds:
        for name, each in found.items():
            each.append(_trained(_trainer(world, name, seed), queries))
            LOG.info("bench ladq: seed %d, %s: %s", seed, name, each[-1])
    lines = []
    base = found[FP32]
    for name in (BF16, LADQ):
        each = found[name]
        ndcg, fp32 = (float(np.mean([one.ndcg for one in some])) for some in (each, base))
        lines.append(
            beside(
                f"{name}, training, processor time",
                [one.seconds for one in each],
                [one.seconds for one in base],
                peer_name=FP32,
                unit="s",
            )
        )
        lines.append(
            Line(what=f"{name}, mean of {len(seeds)} seeds", ours=ndcg, peer=fp32, peer_name=FP32, unit="NDCG@10")
        )
        lines.append(Line(what=f"{name}, lost of fp32's", ours=100 * (1 - ndcg / fp32), unit="%"))
        lines.append(
            Line(what=f"{name}, layers in bf16", ours=100 * float(np.mean([one.low for one in each])), unit="%")
        )
    for name, each in found.items():
        lines.append(Line(what=f"{name}, deviation of the seeds", ours=_deviation(each), unit="NDCG@10"))
    return lines


def _deviation(each: list[Trained]) -> float:
    return float(np.std([one.ndcg for one in each], ddof=1)) if len(each) > 1 else 0.0


def _trainer(world: TrainingWorld, name: str, seed: int) -> Pretrainer:
    if name == LADQ:
        # the recipe's period may be longer than all steps of a small log
        steps = world.trainer("fp32", seed=seed).batches
        ladq = world.fit.ladq.model_copy(update={"every": max(1, min(world.fit.ladq.every, steps))})
        return replace(world, fit=world.fit.model_copy(update={"ladq": ladq})).trainer("ladq", seed=seed)
    trainer = world.trainer("fp32" if name == FP32 else "bf16", seed=seed)
    if name == BF16:
        layers = LinearLayers(trainer.generator)
        layers.set_bf16(set(layers.modules))
    return trainer


def _trained(trainer: Pretrainer, queries: Questions) -> Trained:
    began = time.process_time()
    for epoch in range(trainer.epochs):
        trainer.run_epoch(epoch)
    seconds = time.process_time() - began
    low = 0.0
    if trainer.controller is not None and trainer.controller.decisions:
        last = trainer.controller.decisions[-1]
        low = len(last.bf16) / len(last.layers)
    elif trainer.objective.dtype == torch.bfloat16:
        low = 1.0
    layers = LinearLayers(trainer.generator)
    layers.set_bf16(set())
    return Trained(seconds=seconds, ndcg=item_head_ndcg(trainer.generator, queries), low=low)
