"""Aligns a generator in place with the rewards and says what happened.

Axes: M codebook, K code, D width, N item, R row (a path).
"""

import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recsys.alignment.config import AlignmentConfig
from recsys.alignment.policy import PathPolicy
from recsys.alignment.prompts import draw_prompts
from recsys.alignment.rollouts import sample_paths
from recsys.alignment.trainer import Roller, as_rollout, build_trainer, mean_parts
from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG
from recsys.data.events import EventLog
from recsys.model.generator import Generator
from recsys.rewards.rubric import CategoryReward, ConsistencyReward, PathReward, Rubric, StepReward


@dataclass(frozen=True, kw_only=True)
class AlignmentReport:
    """What alignment did; rates are in [0, 1], rewards are unweighted means on fixed histories."""

    group_hit_rate: float
    """Share of groups in which at least one path found a target: the first thing to look at."""
    flat_group_rate: float
    """Share of groups whose total rewards are all equal; they carry no gradient."""
    rewards_before: Mapping[str, float]
    rewards_after: Mapping[str, float]
    kl: float
    """Divergence from the pre-trained model a token, mean over the last tenth of the steps."""
    entropy: float
    """Entropy of the code choice a token, mean over the last tenth of the steps."""
    rollout_seconds: float
    reward_seconds: float
    training_seconds: float
    rollouts_per_second: float
    """Sampled paths per second of sampling."""


def build_rubric(
    config: AlignmentConfig, *, codewords_MKD: FloatArray, codes_NM: IntArray, category_N: IntArray
) -> Rubric:
    """Return the four rewards of PARS with the recipe's window decay, search length and weights."""
    return Rubric(
        [
            StepReward(codes_NM=codes_NM, decay=config.decay),
            CategoryReward(category_N=category_N, decay=config.decay),
            ConsistencyReward(),
            PathReward(codewords_MKD, codes_NM, top_n=config.top_n, decay=config.decay),
        ],
        config.weights.model_dump(),
    )


def align(
    generator: Generator,
    log: EventLog,
    *,
    config: AlignmentConfig,
    seed: int,
    codewords_MKD: FloatArray,
    category_N: IntArray,
) -> AlignmentReport:
    """Post-train a generator in place with GRPO; dropout is off, and the same seed gives the same weights.

    Args:
        generator: pre-trained; its codes are frozen.
        log: the training log; prompts and their windows come from nowhere else.
        config: how.
        seed: the run's seed.
        codewords_MKD: (codebooks, codes, width) the tokenizer's codewords.
        category_N: (items,) every item's category.
    """
    codes_NM = generator.codes_NM.cpu().numpy()
    rubric = build_rubric(config, codewords_MKD=codewords_MKD, codes_NM=codes_NM, category_N=category_N)
    prompts = draw_prompts(
        log,
        count=config.steps * config.prompts_per_step,
        window=config.window,
        rng=rng_for(seed, "alignment", "prompts"),
    )
    was_training = generator.training
    validity = ValidityIndex(codes_NM, generator.config.codebook_size)
    with _ambient_state_kept(), tempfile.TemporaryDirectory() as folder:
        policy = PathPolicy(generator, validity=validity, histories=prompts.histories)
        roller = Roller(policy, prompts, rubric, config=config, seed=seed)
        before = _probe(roller, seed=seed)
        trainer = build_trainer(roller, seed=seed, folder=folder)
        started = time.perf_counter()
        trainer.train()
        elapsed = time.perf_counter() - started
    after = _probe(roller, seed=seed)
    generator.train(was_training)
    report = _report(roller, trainer.state.log_history, before=before, after=after, elapsed=elapsed)
    LOG.info(
        "alignment: group hit rate %.3f, flat groups %.3f, rewards %s to %s",
        report.group_hit_rate, report.flat_group_rate, before, after,
    )  # fmt: skip
    return report


def _probe(roller: Roller, *, seed: int) -> dict[str, float]:
    """Return the mean rewards on the first prompts, sampled with the same numbers every time."""
    policy, config = roller.policy, roller.config
    count = min(config.probe_prompts, len(roller.prompts))
    prompt_R = torch.arange(count, device=policy.device).repeat_interleave(config.group_size)
    rng = torch.Generator(device=policy.device).manual_seed(derive_seed(seed, "alignment", "probe"))
    paths = sample_paths(policy.backbone, prompt_R, temperature=config.temperature, rng=rng)
    return mean_parts(roller.rubric(as_rollout(paths, roller.prompts, prompt_R)))


def _report(
    roller: Roller,
    history: list[dict[str, Any]],
    *,
    before: Mapping[str, float],
    after: Mapping[str, float],
    elapsed: float,
) -> AlignmentReport:
    tally = roller.tally
    last = [entry for entry in history if "entropy" in entry][-max(1, roller.config.steps // 10) :]
    return AlignmentReport(
        group_hit_rate=float(np.mean(tally.group_hits)),
        flat_group_rate=float(np.mean(tally.flat_groups)),
        rewards_before=before,
        rewards_after=after,
        kl=float(np.mean([entry.get("kl", 0.0) for entry in last])),
        entropy=float(np.mean([entry["entropy"] for entry in last])),
        rollout_seconds=tally.rollout_seconds,
        reward_seconds=tally.reward_seconds,
        training_seconds=elapsed - tally.rollout_seconds - tally.reward_seconds,
        rollouts_per_second=tally.rollouts / max(tally.rollout_seconds, 1e-9),
    )


@contextmanager
def _ambient_state_kept() -> Iterator[None]:
    """Give back the global random states, which the trainer seeds."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
