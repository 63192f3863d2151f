"""The set-up of trl's GRPO trainer: rollouts, reward functions, the reference policy.

Axes: R training row (a sampled path), M codebook, G group, O choice of a path in the order chosen.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from recsys.alignment.collector import RolloutCollector
from recsys.alignment.harness import Progress, common_settings, own_prompts, path_tokenizer, prompt_rows
from recsys.alignment.policy import PathPolicy
from recsys.alignment.supervised import SupervisedLoss, WithSupervisedLoss
from recsys.core.workers import Workers
from recsys.rewards.rubric import RubricScores

LOSS_TYPES = {"sum": "luspo", "mean": "grpo"}
"""trl's losses whose gradients are summed over a path's choices, and averaged. Every rollout is learned from once, so
that its ratio is 1 where the gradient is taken and clipping never acts: they differ by the number of choices alone."""


class PathGRPOTrainer(WithSupervisedLoss, GRPOTrainer):
    """GRPO on sampled paths; what the collector counted is logged with the step, and so is in every checkpoint."""

    def __init__(self, collector: RolloutCollector, **parts: Any) -> None:
        self.collector = collector
        self.rollout_figures: dict[str, float] = {}
        self.demonstrated_R = torch.zeros(0, dtype=torch.bool)
        super().__init__(model=collector.policy, rollout_func=self.rollout, **parts)

    def rollout(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """Return the fields of trl's ``rollout_func``, and the scores as an extra field (trl repeats prompts).

        Groups whose rewards are all equal are masked: they have no advantage, and are left out of the divergence too.
        So are steps without a choice, whose probability is 1 whatever the policy.
        """
        prompt_R = torch.tensor([int(prompt) for prompt in prompts], device=self.collector.policy.device)
        step = trainer.state.global_step
        rollouts = self.collector.collect(prompt_R, step if self.workers.first else f"{step} of {self.workers.rank}")
        self.rollout_figures, self.demonstrated_R = rollouts.figures, rollouts.demonstrated_R
        log_prob_RO = rollouts.paths.log_prob_RO
        pairs = torch.stack([torch.zeros_like(log_prob_RO), log_prob_RO], dim=2).flatten(1)
        learned_R = np.repeat(~rollouts.flat_G, self.collector.config.group_size)
        learned_RO = rollouts.paths.choice_RO.cpu().numpy() & learned_R[:, None]
        return {
            "prompt_ids": prompt_R[:, None].tolist(),
            "completion_ids": rollouts.paths.token_ids(self.collector.policy.config.codebook_size).tolist(),
            "logprobs": pairs.tolist(),
            "env_mask": np.stack([np.zeros_like(learned_RO), learned_RO], axis=2)
            .reshape(len(learned_RO), -1)
            .astype(int)
            .tolist(),
            "scores": rollouts.scores,
        }

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """Return trl's outputs with advantages relative to the sampled paths alone, without the demonstrations."""
        outputs: dict[str, Any] = super()._generate_and_score_completions(inputs)
        advantage_GR = outputs["advantages"].view(-1, self.collector.config.group_size)
        sampled_GR = (~self.demonstrated_R).view(advantage_GR.shape).to(advantage_GR)
        own_G1 = (advantage_GR * sampled_GR).sum(1, keepdim=True) / sampled_GR.sum(1, keepdim=True)
        outputs["advantages"] = (advantage_GR - own_G1).flatten()
        return outputs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, and the figures of its rollouts."""
        super().log(logs | self.rollout_figures, start_time)
        self.rollout_figures = {}


def _reward(name: str) -> Callable[..., list[float]]:
    """Return one reward as a function for trl; it reads the scores that the rollout computed."""

    def part(*, scores: list[RubricScores], **_: Any) -> list[float]:
        values: list[float] = scores[0].parts[name].tolist()
        return values

    part.__name__ = name
    return part


def build_grpo(
    collector: RolloutCollector, reference: PathPolicy, supervised_loss: SupervisedLoss | None, *, folder: str
) -> GRPOTrainer:
    """Return a trainer for the collector's policy, with a divergence from the reference in its loss.

    trl would load the reference by a path; made without one (beta 0) and given ours, it needs no files.
    """
    policy, config, workers = collector.policy, collector.config, Workers.here()
    weights, prompts = config.weights.model_dump(), own_prompts(config, workers)
    settings = GRPOConfig(
        **common_settings(config, seed=collector.seed, device=policy.device, folder=folder, workers=workers),
        per_device_train_batch_size=prompts * config.group_size,
        num_generations=config.group_size,
        steps_per_generation=1,
        max_completion_length=2,
        reward_weights=list(weights.values()),
        beta=0.0,
        epsilon=config.epsilon,
        temperature=config.temperature,
        loss_type=LOSS_TYPES[config.gradient],
        importance_sampling_level="sequence",
        scale_rewards=config.scale,
    )
    trainer = PathGRPOTrainer(
        collector,
        args=settings,
        reward_funcs=[_reward(name) for name in weights],
        train_dataset=prompt_rows(len(collector.prompts), workers),
        processing_class=path_tokenizer(policy.config.num_codebooks, policy.config.codebook_size),
        callbacks=[Progress(config.steps)],
    )
    if config.beta > 0:
        add_fused_lm_head(reference, temperature=config.temperature)
        trainer.beta = trainer.args.beta = config.beta
        trainer.ref_model = reference
    trainer.workers, trainer.share = workers, prompts / config.prompts_per_step
    trainer.supervised_loss = supervised_loss
    trainer.remove_callback(PrinterCallback)
    return trainer
