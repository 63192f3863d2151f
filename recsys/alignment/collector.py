"""Rollouts with their rewards, and figures of them: groups that hit, groups without a gradient, seconds.

Axes: R training row (a sampled path), B prompt, G group, H next item of a window.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch

from recsys.alignment.config import AlignmentConfig
from recsys.alignment.policy import PathPolicy
from recsys.alignment.prompts import PromptTable
from recsys.alignment.rollouts import SampledPaths, sample_paths
from recsys.core.arrays import BoolArray
from recsys.core.seeds import derive_seed
from recsys.rewards.rollout import Rollout
from recsys.rewards.rubric import Rubric, RubricScores

FLAT = 1e-6
"""A group whose rewards differ by no more than this has no advantages, and no gradient."""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Paths of whole groups, one group after another, with their rewards.

    Shape:
        prompt_R: (rows,) each path's prompt.
        demonstrated_R: (rows,) whether a path is a demonstration, not sampled.
        flat_G: (groups,) whether all rewards of a group are equal.
        figures: what is logged of these rollouts, by name.
    """

    prompt_R: torch.Tensor
    demonstrated_R: torch.Tensor
    paths: SampledPaths
    scores: RubricScores
    flat_G: BoolArray
    figures: dict[str, float]


class RolloutCollector:
    """Samples paths for bound prompts and scores them once for all rewards; every draw has a seed of its own."""

    def __init__(
        self, policy: PathPolicy, prompts: PromptTable, rubric: Rubric, *, config: AlignmentConfig, seed: int
    ) -> None:
        self.policy, self.prompts, self.rubric, self.config, self.seed = policy, prompts, rubric, config, seed

    def collect(self, prompt_R: torch.Tensor, draw: int | str, *, demonstrate: bool = True) -> Rollouts:
        """Return one path per row, where each prompt fills a group of consecutive rows.

        The first places of a group demonstrate items of the window, at most as many as the recipe sets.
        """
        rng = torch.Generator(device=self.policy.device).manual_seed(derive_seed(self.seed, "rollouts", draw))
        began = time.perf_counter()
        item_R = self._demonstrated(prompt_R) if demonstrate else torch.full_like(prompt_R, -1)
        demonstrated_R = item_R >= 0
        was_training = self.policy.training
        paths = sample_paths(
            self.policy.eval().backbone,
            prompt_R,
            temperature=self.config.temperature,
            rng=rng,
            item_R=item_R,
        )
        self.policy.train(was_training)
        sampled = time.perf_counter()
        scores = self.rubric(as_rollout(paths, self.prompts, prompt_R))
        total_GR = scores.total_R.reshape(-1, self.config.group_size)
        hit_GR = ((scores.parts["path"] > 0) & ~demonstrated_R.cpu().numpy()).reshape(total_GR.shape)
        flat_G = np.ptp(total_GR, axis=1) < FLAT
        figures = {
            "group_hits": float(hit_GR.any(axis=1).mean()),
            "flat_groups": float(flat_G.mean()),
            "rollouts": float(len(prompt_R)),
            "demonstrations": float(demonstrated_R.float().mean()),
            "rollout_seconds": sampled - began,
            "reward_seconds": time.perf_counter() - sampled,
        }
        return Rollouts(
            prompt_R=prompt_R, demonstrated_R=demonstrated_R, paths=paths, scores=scores, flat_G=flat_G, figures=figures
        )

    def _demonstrated(self, prompt_R: torch.Tensor) -> torch.Tensor:
        """Return the item that each row demonstrates, never one that the user has; -1 where its path is sampled."""
        size, prompt_B = self.config.group_size, prompt_R.cpu().numpy()[:: self.config.group_size]
        shown_GR = np.full((len(prompt_B), size), -1)
        wanted_GH = self.prompts.targets_BH[prompt_B][:, : self.config.demonstrations]
        new_GH = np.take_along_axis(self.prompts.new_to(prompt_B), wanted_GH, axis=1)
        shown_GR[:, : wanted_GH.shape[1]] = np.where(new_GH, wanted_GH, -1)
        return torch.from_numpy(shown_GR.ravel()).to(prompt_R.device)

    def groups(self, prompt_B: torch.Tensor) -> torch.Tensor:
        """Return the rows of whole groups of these prompts, (prompts x group size,)."""
        return prompt_B.repeat_interleave(self.config.group_size)


def as_rollout(paths: SampledPaths, prompts: PromptTable, prompt_R: torch.Tensor) -> Rollout:
    """Return sampled paths with the windows of their prompts, as the rewards read them."""
    return Rollout(
        book_RO=paths.book_RO.cpu().numpy(),
        choice_RO=paths.choice_RO.cpu().numpy(),
        tokens_RM=paths.tokens_RM.cpu().numpy(),
        category_ROQ=paths.category_ROQ.cpu().numpy(),
        target_items_RH=prompts.targets_BH[prompt_R.cpu().numpy()],
    )
