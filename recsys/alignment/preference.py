"""Alignment by preferences: paths are sampled once, and trl's DPO trainer prefers each group's best to its worst.

Axes: R training row (a sampled path), G group, B prompt, T token, X pair.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from recsys.alignment.collector import RolloutCollector, Rollouts
from recsys.alignment.harness import Progress, common_settings, own_prompts, path_tokenizer
from recsys.alignment.policy import PathPolicy
from recsys.alignment.supervised import SupervisedLoss, WithSupervisedLoss
from recsys.core.telemetry import track
from recsys.core.workers import Workers

PAIRS = "pairs"


class PathDPOTrainer(WithSupervisedLoss, DPOTrainer):
    """DPO on pairs of paths, which are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def sample_pairs(collector: RolloutCollector, folder: Path) -> tuple[Dataset, list[dict[str, float]]]:
    """Sample every prompt once and pair each group's best path with its worst; a finished sampling is read back.

    Groups whose rewards are all equal make no pair.

    Returns:
        the pairs as ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, and the rollouts' figures of each draw.
    """
    saved, workers = folder / PAIRS, Workers.here()
    if workers.first and not saved.exists():
        rows, figures = [], []
        for rollouts in _collected(collector):
            rows += _pairs(rollouts, collector)
            figures.append(rollouts.figures)
        begun = folder / f"{PAIRS}.tmp"
        Dataset.from_dict({"pairs": [rows], "accounts": [figures]}).save_to_disk(begun)
        begun.rename(saved)
    workers.of_first(None)  # the others wait for the first one's file
    held = load_from_disk(str(saved))[0]
    return Dataset.from_list(held["pairs"]), held["accounts"]


def _collected(collector: RolloutCollector) -> Iterator[Rollouts]:
    step, steps = collector.config.prompts_per_step, collector.config.steps
    for draw in track(range(steps), what="sampling pairs", total=steps):
        prompt_B = torch.arange(draw * step, (draw + 1) * step, device=collector.policy.device)
        yield collector.collect(collector.groups(prompt_B), draw)


def _pairs(rollouts: Rollouts, collector: RolloutCollector) -> list[dict[str, list[int]]]:
    size = collector.config.group_size
    total_GR = rollouts.scores.total_R.reshape(-1, size)
    tokens_RT = rollouts.paths.token_ids(collector.policy.config.codebook_size).tolist()
    pairs = []
    for group in np.flatnonzero(~rollouts.flat_G).tolist():
        best, worst = group * size + total_GR[group].argmax(), group * size + total_GR[group].argmin()
        pairs.append(
            {
                "prompt_ids": [int(rollouts.prompt_R[best])],
                "chosen_ids": tokens_RT[best],
                "rejected_ids": tokens_RT[worst],
            }
        )
    return pairs


def build_dpo(
    collector: RolloutCollector,
    reference: PathPolicy,
    pairs: Dataset,
    supervised_loss: SupervisedLoss | None,
    *,
    folder: str,
) -> DPOTrainer:
    """Return a trainer that makes the policy prefer the chosen paths, tied to the reference."""
    policy, config, workers = collector.policy, collector.config, Workers.here()
    own = own_prompts(config, workers)
    settings = DPOConfig(
        **common_settings(config, seed=collector.seed, device=policy.device, folder=folder, workers=workers),
        per_device_train_batch_size=own,
        beta=config.preference_beta,
        max_length=None,
    )
    trainer = PathDPOTrainer(
        model=policy,
        ref_model=reference,
        args=settings,
        train_dataset=pairs
        if workers.alone
        else pairs.select(range(workers.rank % len(pairs), len(pairs), workers.count)),
        processing_class=path_tokenizer(policy.config.num_codebooks, policy.config.codebook_size),
        callbacks=[Progress(config.steps)],
    )
    trainer.workers, trainer.share = workers, own / config.prompts_per_step
    trainer.supervised_loss = supervised_loss
    trainer.remove_callback(PrinterCallback)
    return trainer
