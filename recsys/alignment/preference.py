"""The cheaper alternative: paths are sampled once, and trl's DPO trainer prefers each group's best to its worst.

Axes: R row (a path), G group, X pair.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from recsys.alignment.anchor import Anchor, Anchored
from recsys.alignment.harness import Progress, common_settings, path_tokenizer
from recsys.alignment.policy import PathPolicy
from recsys.alignment.roller import Rolled, Roller
from recsys.core.telemetry import track

PAIRS = "pairs"


class PathDPOTrainer(Anchored, DPOTrainer):
    """DPO on pairs of paths, which are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def sample_pairs(roller: Roller, folder: Path) -> tuple[Dataset, list[dict[str, float]]]:
    """Roll out every prompt once and pair each group's best path with its worst; a finished sampling is read back.

    Groups whose rewards are all equal make no pair.

    Returns:
        the pairs as ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, and the account of each draw.
    """
    saved = folder / PAIRS
    if not saved.exists():
        rows, accounts = [], []
        for rolled in _rolled(roller):
            rows += _pairs(rolled, roller)
            accounts.append(rolled.account)
        begun = folder / f"{PAIRS}.tmp"
        Dataset.from_dict({"pairs": [rows], "accounts": [accounts]}).save_to_disk(begun)
        begun.rename(saved)
    held = load_from_disk(str(saved))[0]
    return Dataset.from_list(held["pairs"]), held["accounts"]


def _rolled(roller: Roller) -> Iterator[Rolled]:
    step, steps = roller.config.prompts_per_step, roller.config.steps
    for draw in track(range(steps), what="sampling pairs", total=steps):
        prompt_P = torch.arange(draw * step, (draw + 1) * step, device=roller.policy.device)
        yield roller.roll(roller.groups(prompt_P), draw)


def _pairs(rolled: Rolled, roller: Roller) -> list[dict[str, list[int]]]:
    size = roller.config.group_size
    total_GR = rolled.scores.total_R.reshape(-1, size)
    tokens_RT = rolled.paths.token_ids(roller.policy.config.codebook_size).tolist()
    pairs = []
    for group in np.flatnonzero(~rolled.flat_G).tolist():
        best, worst = group * size + total_GR[group].argmax(), group * size + total_GR[group].argmin()
        pairs.append(
            {
                "prompt_ids": [int(rolled.prompt_R[best])],
                "chosen_ids": tokens_RT[best],
                "rejected_ids": tokens_RT[worst],
            }
        )
    return pairs


def build_dpo(
    roller: Roller, reference: PathPolicy, pairs: Dataset, anchor: Anchor | None, *, folder: str
) -> DPOTrainer:
    """Return a trainer that makes the policy prefer the chosen paths, tied to the reference."""
    policy, config = roller.policy, roller.config
    settings = DPOConfig(
        **common_settings(config, seed=roller.seed, device=policy.device, folder=folder),
        per_device_train_batch_size=config.prompts_per_step,
        beta=config.preference_beta,
        max_length=None,
    )
    trainer = PathDPOTrainer(
        model=policy,
        ref_model=reference,
        args=settings,
        train_dataset=pairs,
        processing_class=path_tokenizer(policy.config.num_codebooks, policy.config.codebook_size),
        callbacks=[Progress(config.steps)],
    )
    trainer.anchor = anchor
    trainer.remove_callback(PrinterCallback)
    return trainer
