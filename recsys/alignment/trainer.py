"""The set-up of trl's GRPO trainer: rollouts, rewards as it calls them, the reference, progress.

Axes: R row (a path), M codebook, H next item.
"""

import os
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from recsys.alignment.config import AlignmentConfig
from recsys.alignment.policy import PathPolicy
from recsys.alignment.prompts import PromptTable
from recsys.alignment.rollouts import SampledPaths, sample_paths
from recsys.core.arrays import FloatArray
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import track
from recsys.rewards.rollout import Rollout
from recsys.rewards.rubric import Rubric, RubricScores


@dataclass(kw_only=True)
class Tally:
    """What the rollouts and rewards of a run add up to."""

    rollout_seconds: float = 0.0
    reward_seconds: float = 0.0
    rollouts: int = 0
    group_hits: list[float] = field(default_factory=list)
    flat_groups: list[float] = field(default_factory=list)

    def note(self, scores: RubricScores, group_size: int) -> None:
        """Count the groups that hit and those whose rewards are all equal, which teach nothing."""
        total_GR = scores.total_R.reshape(-1, group_size)
        self.group_hits.append(float((scores.parts["path"].reshape(-1, group_size) > 0).any(axis=1).mean()))
        self.flat_groups.append(float((np.ptp(total_GR, axis=1) < 1e-6).mean()))


def as_rollout(paths: SampledPaths, prompts: PromptTable, prompt_R: torch.Tensor) -> Rollout:
    """Return sampled paths with the windows of their prompts, as the rewards want them."""
    return Rollout(
        tokens_RM=paths.tokens_RM.cpu().numpy(),
        category_RSQ=paths.category_RSQ.cpu().numpy(),
        target_items_RH=prompts.targets_PH[prompt_R.cpu().numpy()],
    )


class Roller:
    """Samples paths for trl and scores them once for all rewards."""

    def __init__(
        self, policy: PathPolicy, prompts: PromptTable, rubric: Rubric, *, config: AlignmentConfig, seed: int
    ) -> None:
        self.policy = policy
        self.prompts = prompts
        self.rubric = rubric
        self.config = config
        self.tally = Tally()
        self._rng = torch.Generator(device=policy.device).manual_seed(derive_seed(seed, "alignment", "rollouts"))

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """Return what trl's ``rollout_func`` must, and the scores as an extra field (trl repeats prompts)."""
        del trainer
        started = time.perf_counter()
        prompt_R = torch.tensor([int(prompt) for prompt in prompts], device=self.policy.device)
        paths = sample_paths(self.policy.backbone, prompt_R, temperature=self.config.temperature, rng=self._rng)
        rolled = time.perf_counter()
        scores = self.rubric(as_rollout(paths, self.prompts, prompt_R))
        self.tally.note(scores, self.config.group_size)
        self.tally.rollouts += len(prompts)
        self.tally.rollout_seconds += rolled - started
        self.tally.reward_seconds += time.perf_counter() - rolled
        log_prob_RS = paths.log_prob_RS
        pairs = torch.stack([torch.zeros_like(log_prob_RS), log_prob_RS], dim=2).flatten(1)
        return {
            "prompt_ids": prompt_R[:, None].tolist(),
            "completion_ids": paths.token_ids(self.policy.config.codebook_size).tolist(),
            "logprobs": pairs.tolist(),
            "env_mask": [[0, 1] * log_prob_RS.shape[1] for _ in prompts],
            "scores": scores,
        }


def _reward(name: str) -> Callable[..., list[float]]:
    """Return one reward as trl calls it; the rollout has scored all of them already."""

    def part(*, scores: list[RubricScores], **_: Any) -> list[float]:
        values: list[float] = scores[0].parts[name].tolist()
        return values

    part.__name__ = name
    return part


class _Progress(TrainerCallback):
    """Steps the project's progress display."""

    def __init__(self, steps: int) -> None:
        self._ticks: Iterator[int] = track(range(steps), what="alignment", total=steps)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Advance by one."""
        next(self._ticks, None)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the display."""
        next(self._ticks, None)


def path_tokenizer(num_codebooks: int, codebook_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer over the names of code and codebook tokens; trl decodes completions with it."""
    names = [f"c{code}" for code in range(codebook_size)] + [f"b{book}" for book in range(num_codebooks)]
    vocabulary = {name: token for token, name in enumerate([*names, "<pad>", "<eos>"])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="<eos>",
    )


def _checkpointing_setting() -> str:
    """Return what this transformers calls recomputing activations; the old name warns beside the new."""
    names = {setting.name for setting in fields(GRPOConfig)}
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"


def _settings(config: AlignmentConfig, *, seed: int, device: torch.device, folder: str) -> GRPOConfig:
    weights = config.weights.model_dump()
    return GRPOConfig(
        output_dir=folder,
        seed=derive_seed(seed, "alignment", "trainer"),
        max_steps=config.steps,
        per_device_train_batch_size=config.prompts_per_step * config.group_size,
        num_generations=config.group_size,
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        max_completion_length=2,
        reward_weights=list(weights.values()),
        beta=0.0,
        epsilon=config.epsilon,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        temperature=config.temperature,
        loss_type="grpo",
        importance_sampling_level="sequence",
        scale_rewards="group",
        disable_dropout=False,
        **{_checkpointing_setting(): False},
        bf16=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        log_level="error",
    )


def build_trainer(roller: Roller, *, seed: int, folder: str) -> GRPOTrainer:
    """Return a trainer for the roller's policy whose reference is a frozen copy of its generator as it is.

    trl would load the reference by a path; made without one (beta 0) and given ours, it needs no files.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    policy, config = roller.policy, roller.config
    trainer = GRPOTrainer(
        model=policy,
        args=_settings(config, seed=seed, device=policy.device, folder=folder),
        reward_funcs=[_reward(name) for name in config.weights.model_dump()],
        train_dataset=Dataset.from_dict({"prompt": [str(index) for index in range(len(roller.prompts))]}),
        processing_class=path_tokenizer(policy.config.num_codebooks, policy.config.codebook_size),
        rollout_func=roller,
        callbacks=[_Progress(config.steps)],
    )
    trainer.remove_callback(PrinterCallback)
    if config.beta > 0:
        reference = PathPolicy(
            deepcopy(policy.backbone.generator),
            validity=policy.backbone.validity,
            histories=policy.backbone.histories,
        )
        reference.requires_grad_(False)
        add_fused_lm_head(reference, temperature=config.temperature)
        trainer.beta = trainer.args.beta = config.beta
        trainer.ref_model = reference
    return trainer


def mean_parts(scores: RubricScores) -> dict[str, float]:
    """Return the mean of every reward."""
    return {name: float(_mean(part_R)) for name, part_R in scores.parts.items()}


def _mean(values_R: FloatArray) -> np.floating[Any]:
    return values_R.mean(dtype=np.float64)
