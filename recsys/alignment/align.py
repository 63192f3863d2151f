"""Alignment of a generator in place with the rewards, and the report of it.

Axes: M codebook, K code, D width, N item, R training row (a sampled path), O choice of a path in the order chosen.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys.alignment.collector import RolloutCollector
from recsys.alignment.config import AlignmentConfig
from recsys.alignment.harness import as_if_alone, last_checkpoint
from recsys.alignment.policy import PathPolicy
from recsys.alignment.preference import build_dpo, sample_pairs
from recsys.alignment.prompts import draw_prompts
from recsys.alignment.supervised import SupervisedLoss
from recsys.alignment.trainer import build_grpo
from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.device import Precision
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG
from recsys.data.events import EventLog
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import Fold, cross_fit
from recsys.model.generator import Generator
from recsys.model.training_objective import TrainingObjective
from recsys.rewards.rubric import CategoryReward, ConsistencyReward, PathReward, Rubric, StepReward

_KEPT = {"step", "loss", "supervised", "reward", "kl", "entropy", "group_hits", "flat_groups"}
"""What is kept of a step's log: figures that one seed repeats, no times."""


@dataclass(frozen=True, kw_only=True)
class AlignmentReport:
    """What alignment did; rates are in [0, 1], rewards are unweighted means on fixed histories."""

    method: str
    group_hit_rate: float
    """Share of groups in which at least one sampled path found a target; near zero, nothing can be learned."""
    flat_group_rate: float
    """Share of groups whose total rewards are all equal; they carry no gradient and are skipped."""
    rewards_before: Mapping[str, float]
    rewards_after: Mapping[str, float]
    kl: float
    """Divergence from the pre-trained model, nats a path, on the fixed histories at the end."""
    entropy_before: float
    entropy_after: float
    """Entropy of a path's choices, nats a path, on the fixed histories."""
    steps: Sequence[Mapping[str, float]]
    """For each gradient step what the trainer logged: rewards, loss, and for GRPO groups that hit and divergence."""
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


def align(  # noqa: PLR0913 (a model, a log, a recipe, and what the rewards need)
    generator: Generator,
    log: EventLog,
    *,
    config: AlignmentConfig,
    seed: int,
    codewords_MKD: FloatArray,
    category_N: IntArray,
    folder: Path,
    fit: FitConfig | None = None,
    precision: Precision = "auto",
) -> AlignmentReport:
    """Post-train a generator in place; the same seed gives the same weights.

    A killed run that is started again with the same folder goes on from its last checkpoint, and ends as if it had not
    been killed.

    Args:
        generator: pre-trained; its codes are frozen.
        log: the training log; prompts and their windows are taken from it alone.
        config: the settings of alignment.
        seed: the run's seed.
        codewords_MKD: (codebooks, codes, width) the tokenizer's codewords.
        category_N: (items,) every item's category.
        folder: where checkpoints go.
        fit: how windows are drawn and losses are weighed where the supervised loss takes part; None for the defaults.
        precision: the arithmetic of the supervised loss's softmax over items.
    """
    codes_NM = generator.codes_NM.cpu().numpy()
    rubric = build_rubric(config, codewords_MKD=codewords_MKD, codes_NM=codes_NM, category_N=category_N)
    was_training = generator.training
    prompts = draw_prompts(
        log,
        count=config.steps * config.prompts_per_step,
        window=config.window,
        rng=rng_for(seed, "alignment", "prompts"),
        folds=_folds(generator, log, config, seed=seed),
        latest=config.latest_events,
        rarity=config.rarity,
    )
    validity = ValidityIndex(codes_NM, generator.config.codebook_size)
    objective = partial(TrainingObjective, generator, log, category_N, precision=precision)
    supervised_loss = _supervised_loss(objective, generator, config, fit or FitConfig(), seed=seed)
    with _random_states_restored(), _without_members(generator), as_if_alone():
        policy = PathPolicy(
            generator, validity=validity, prompts=prompts, guidance=config.guidance, dropout=config.dropout
        )
        reference = policy.of(deepcopy(generator))
        collector = RolloutCollector(policy, prompts, rubric, config=config, seed=seed)
        before = probe(collector, reference)
        history, seconds = _train(collector, reference, supervised_loss, folder)
        after = probe(collector, reference)
    generator.train(was_training)
    report = _report(config, history, before=before, after=after, seconds=seconds)
    LOG.info(
        "alignment: group hit rate %.3f, flat groups %.3f, rewards %s to %s",
        report.group_hit_rate, report.flat_group_rate, report.rewards_before, report.rewards_after,
    )  # fmt: skip
    return report


def _folds(generator: Generator, log: EventLog, config: AlignmentConfig, *, seed: int) -> list[Fold]:
    """Return folds of users, each with a prior counted without them; none where the model has no prior."""
    if not generator.config.prior_pairs:
        return []
    return cross_fit(log, config.prior_folds, rng_for(seed, "alignment", "folds"), generator.head.prior().likeness)


def _supervised_loss(
    objective: Callable[..., TrainingObjective],
    generator: Generator,
    config: AlignmentConfig,
    fit: FitConfig,
    *,
    seed: int,
) -> SupervisedLoss | None:
    """Return the supervised loss with a frozen copy of the recommender as teacher, or None without a weight."""
    if config.supervised.weight == 0:
        return None
    teacher = deepcopy(generator).eval().requires_grad_(False)
    own = fit.model_copy(update={"shuffle_ties": config.supervised.shuffle_ties})
    return SupervisedLoss(objective(own, seed=derive_seed(seed, "anchor")), teacher, config)


def _train(
    collector: RolloutCollector, reference: PathPolicy, supervised_loss: SupervisedLoss | None, folder: Path
) -> tuple[list[dict[str, Any]], float]:
    """Train by the method of the recipe; returns the log of steps and the seconds that training itself took."""
    folder.mkdir(parents=True, exist_ok=True)
    sampled: list[dict[str, float]] = []
    if collector.config.method == "dpo":
        pairs, sampled = sample_pairs(collector, folder)
        if not len(pairs):
            LOG.warning("every group's rewards are equal: there is no pair to learn from, the model stays as it is")
            return sampled, 0.0
        trainer = build_dpo(collector, reference, pairs, supervised_loss, folder=str(folder))
    else:
        trainer = build_grpo(collector, reference, supervised_loss, folder=str(folder))
    found = last_checkpoint(folder)
    if found is not None:
        LOG.info("alignment goes on from %s", found)
    began = time.perf_counter()
    trainer.train(resume_from_checkpoint=found)
    elapsed = time.perf_counter() - began
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    if sampled:
        return [figures | step for figures, step in zip(sampled, logged, strict=False)], elapsed
    inside = sum(entry["rollout_seconds"] + entry["reward_seconds"] for entry in logged)
    return logged, sum(entry["step_time"] for entry in logged) - inside


@dataclass(frozen=True, kw_only=True)
class AlignmentProbe:
    """Means over sampled paths: each reward by name, entropy and divergence from the reference in nats a path."""

    rewards: Mapping[str, float]
    entropy: float
    kl: float


def probe(collector: RolloutCollector, reference: PathPolicy) -> AlignmentProbe:
    """Return mean rewards, entropy and divergence on the first prompts, sampled with the same numbers every time."""
    count = min(collector.config.probe_prompts, len(collector.prompts))
    rollouts = collector.collect(
        collector.groups(torch.arange(count, device=collector.policy.device)), "probe", demonstrate=False
    )
    paths = rollouts.paths
    with torch.no_grad():
        logits_ROK = (
            reference.backbone.along(rollouts.prompt_R, paths.book_RO, paths.code_RO) / collector.config.temperature
        )
    held_RO = logits_ROK.log_softmax(-1).gather(2, paths.code_RO[..., None]).squeeze(2)
    return AlignmentProbe(
        rewards={name: float(part_R.mean(dtype=np.float64)) for name, part_R in rollouts.scores.parts.items()},
        entropy=float(-paths.log_prob_RO.sum(1).mean()),
        kl=float((paths.log_prob_RO - held_RO).sum(1).mean()),
    )


def _report(
    config: AlignmentConfig,
    history: Sequence[Mapping[str, Any]],
    *,
    before: AlignmentProbe,
    after: AlignmentProbe,
    seconds: float,
) -> AlignmentReport:
    rewards = config.weights.model_dump()
    sampled = [entry for entry in history if "rollouts" in entry]
    sampling = sum(entry["rollout_seconds"] for entry in sampled)
    return AlignmentReport(
        method=config.method,
        group_hit_rate=float(np.mean([entry["group_hits"] for entry in sampled])),
        flat_group_rate=float(np.mean([entry["flat_groups"] for entry in sampled])),
        rewards_before={name: before.rewards[name] for name in rewards},
        rewards_after={name: after.rewards[name] for name in rewards},
        kl=after.kl,
        entropy_before=before.entropy,
        entropy_after=after.entropy,
        steps=[{key: entry[key] for key in entry if key in _KEPT or key.startswith("rewards/")} for entry in history],
        rollout_seconds=sampling,
        reward_seconds=sum(entry["reward_seconds"] for entry in sampled),
        training_seconds=seconds,
        rollouts_per_second=sum(entry["rollouts"] for entry in sampled) / max(sampling, 1e-9),
    )


@contextmanager
def _random_states_restored() -> Iterator[None]:
    """Restore the global random states after the block; trl's trainer seeds them."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _without_members(generator: Generator) -> Iterator[None]:
    """Take the ensemble members out within the block: they were trained on the targets of the prompts."""
    members, generator.head.members = generator.head.members, None
    try:
        yield
    finally:
        generator.head.members = members
