"""The rewards of PARS and the rubric that weighs them.

Axes: R training row (a sampled path), M codebook, O choice of a path in the order chosen, Q category,
H next item of a window, K code, D width, N item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from scipy.spatial.distance import jensenshannon

from recsys.core.arrays import FloatArray, IntArray
from recsys.rewards.rollout import Reward, Rollout, spread


@dataclass(frozen=True, kw_only=True)
class StepReward:
    """Share of the generated tokens that the target has too (REG4Rec, arXiv 2508.15308, PARS step reward).

    Tokens count where the path had a choice: once a single item is left, its other codes follow by themselves. A token
    is a code of a codebook, so codes are compared by codebook; spread over the window (MSRA).

    Shape:
        codes_NM: (items, codebooks) every item's codes.
    """

    codes_NM: IntArray
    decay: float = 0.8
    name: str = "step"

    def __call__(self, rollout: Rollout) -> FloatArray:
        """Return one value in [0, 1] per path, shape (rollouts,)."""
        targets_RHM = self.codes_NM[rollout.target_items_RH]
        shared_RHM = targets_RHM == rollout.tokens_RM[:, None, :]
        shared_RHO = np.take_along_axis(shared_RHM, rollout.book_RO[:, None, :], axis=2)
        return spread(rollout.share_of_choices(shared_RHO), rollout.target_items_RH, self.decay)


@dataclass(frozen=True, kw_only=True)
class CategoryReward:
    """Share of steps with a choice whose predicted category is the target's (arXiv 2508.15308, PARS category reward).

    Shape:
        category_N: (items,) every item's category.
    """

    category_N: IntArray
    decay: float = 0.8
    name: str = "category"

    def __call__(self, rollout: Rollout) -> FloatArray:
        """Return one value in [0, 1] per path, shape (rollouts,)."""
        predicted_RO = rollout.category_ROQ.argmax(axis=2)
        wanted_RH = self.category_N[rollout.target_items_RH]
        right_RHO = predicted_RO[:, None, :] == wanted_RH[:, :, None]
        return spread(rollout.share_of_choices(right_RHO), rollout.target_items_RH, self.decay)


@dataclass(frozen=True, kw_only=True)
class ConsistencyReward:
    """One minus the mean JS divergence, base 2, of neighbouring steps (arXiv 2508.15308, PARS js).

    It ignores the target, is not spread over the window, and is maximal for a constant prediction.
    """

    name: str = "consistency"

    def __call__(self, rollout: Rollout) -> FloatArray:
        """Return one value in [0, 1] per path, shape (rollouts,); a path of one step is consistent."""
        p_ROQ = rollout.category_ROQ.astype(np.float64)
        if p_ROQ.shape[1] < 2:
            return np.ones(len(p_ROQ), np.float32)
        distance_RO = jensenshannon(p_ROQ[:, :-1], p_ROQ[:, 1:], base=2, axis=2)
        # SciPy takes the root of a divergence that rounding may have made negative for equal distributions.
        divergence_RO = np.nan_to_num(distance_RO, nan=0.0) ** 2
        return np.asarray(1.0 - divergence_RO.mean(axis=1), np.float32)


class PathReward:
    """One if a search with the sum of the path's codewords finds the target (arXiv 2508.15308, PARS path).

    Each codebook has its own space, so codewords are lifted before they are summed: the sum is their
    concatenation, and a path's inner product with an item is the sum of those of their codewords.
    """

    name = "path"

    def __init__(self, codewords_MKD: FloatArray, codes_NM: IntArray, *, top_n: int = 10, decay: float = 0.8) -> None:
        if codewords_MKD.shape[0] != codes_NM.shape[1]:
            raise ValueError(
                f"codewords must be of the codes' {codes_NM.shape[1]} codebooks, "
                f"got {codewords_MKD.shape[0]}; pass the codebooks that produced the codes"
            )
        self._codewords_MKD = np.ascontiguousarray(codewords_MKD, dtype=np.float32)
        self._top_n = min(top_n, len(codes_NM))
        self._decay = decay
        self._index = faiss.IndexFlatIP(int(codewords_MKD.shape[0] * codewords_MKD.shape[2]))
        self._index.add(self._lift(codes_NM))

    def _lift(self, codes_XM: IntArray) -> FloatArray:
        books_M = np.arange(codes_XM.shape[1])
        return np.ascontiguousarray(self._codewords_MKD[books_M, codes_XM].reshape(len(codes_XM), -1))

    def __call__(self, rollout: Rollout) -> FloatArray:
        """Return one value in [0, 1] per path, shape (rollouts,)."""
        _, found_RN = self._index.search(self._lift(rollout.tokens_RM), self._top_n)
        hit_RH = (found_RN[:, None, :] == rollout.target_items_RH[:, :, None]).any(axis=2)
        return spread(hit_RH.astype(np.float32), rollout.target_items_RH, self._decay)


@dataclass(frozen=True, kw_only=True)
class RubricScores:
    """Every reward apart and their weighted sum.

    Shape:
        total_R: (rollouts,)
        parts: name of the reward to (rollouts,), unweighted.
    """

    total_R: FloatArray
    parts: Mapping[str, FloatArray]


class Rubric:
    """A weighted sum of named rewards: reward = step + cate + js + path in the paper, all weights one."""

    def __init__(self, rewards: Sequence[Reward], weights: Mapping[str, float]) -> None:
        names = [reward.name for reward in rewards]
        if len(set(names)) != len(names) or set(names) != set(weights):
            raise ValueError(
                f"the weights must name each reward once, got rewards {names} and weights {sorted(weights)}; "
                "give every reward a name of its own and a weight (0 only reports it)"
            )
        self.rewards = tuple(rewards)
        self.weights = dict(weights)

    def __call__(self, rollout: Rollout) -> RubricScores:
        """Return the total and every part."""
        parts = {reward.name: reward(rollout) for reward in self.rewards}
        total_R = np.zeros(len(rollout.tokens_RM), np.float32)
        for name, part_R in parts.items():
            total_R += np.float32(self.weights[name]) * part_R
        return RubricScores(total_R=total_R, parts=parts)
