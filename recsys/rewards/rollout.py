"""A batch of finished paths as the rewards see it, and the spread of a reward over next items (MSRA).

Axes: R training row (a sampled path), M codebook, O choice of a path in the order chosen, Q category,
H next item of a window.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Finished paths and the items their users went on to.

    Shape:
        book_RO: (rollouts, steps) the codebook of each step.
        choice_RO: (rollouts, steps) whether more than one code was allowed at a step; a forced step has no choice.
        tokens_RM: (rollouts, codebooks) the chosen code of each codebook, in codebook order.
        category_ROQ: (rollouts, steps, categories) the category distribution before each step, in step order.
        target_items_RH: (rollouts, window) the items at t+1..t+h, -1 where the history ends.
    """

    book_RO: IntArray
    choice_RO: BoolArray
    tokens_RM: IntArray
    category_ROQ: FloatArray
    target_items_RH: IntArray

    def __post_init__(self) -> None:
        parts = (self.book_RO, self.choice_RO, self.tokens_RM, self.category_ROQ, self.target_items_RH)
        rows = {len(part) for part in parts}
        if len(rows) != 1:
            raise ValueError(
                f"the rows of a rollout must be as many in all parts, got steps {self.book_RO.shape} and "
                f"{self.choice_RO.shape}, tokens {self.tokens_RM.shape}, categories {self.category_ROQ.shape}, "
                f"targets {self.target_items_RH.shape}; "
                "pass one row per path in each"
            )

    def share_of_choices(self, right_RHO: BoolArray) -> FloatArray:
        """Return the share of a path's choices that are right; 0 for a path that never had a choice.

        Shape:
            right_RHO: (rollouts, window, steps) whether each step is right against each item of the window.
            returns: (rollouts, window).
        """
        choices_R1 = self.choice_RO.sum(axis=1, keepdims=True)
        right_RH = (right_RHO & self.choice_RO[:, None, :]).sum(axis=2)
        return (right_RH / np.maximum(choices_R1, 1)).astype(np.float32)


class Reward(Protocol):
    """A named reward: one value for each finished path."""

    @property
    def name(self) -> str:
        """What the reward is called in reports."""
        ...

    def __call__(self, rollout: Rollout) -> FloatArray:
        """Return one value per path, shape (rollouts,)."""
        ...


def spread(values_RH: FloatArray, target_items_RH: IntArray, decay: float) -> FloatArray:
    """Average a reward over the items of the window that exist, item t+j with weight decay^(j-1) (MSRA).

    sum_j w^(j-1) value_j / sum_j w^(j-1); a row without any target is worth 0.

    Shape:
        values_RH: (rollouts, window) the value against item t+j.
        target_items_RH: (rollouts, window), -1 where the history ends.
        result: (rollouts,)
    """
    weights_RH = decay ** np.arange(target_items_RH.shape[1]) * (target_items_RH >= 0)
    total_R = weights_RH.sum(axis=1)
    summed_R = (weights_RH * values_RH).sum(axis=1)
    return np.divide(summed_R, total_R, out=np.zeros_like(total_R), where=total_R > 0).astype(np.float32)
