"""A reward model for the direct method and doubly robust estimates: one ridge regression per item, cross-fitted.

Axes: B logged request, N item, F feature of the request (the first one is constant), G fold.
"""

from dataclasses import dataclass

import numpy as np

from recsys.core.arrays import Float64Array, IntArray


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """Linear rewards of each item, one model per fold; a request is predicted by one not fitted on its group.

    Shape:
        coefficients_GFN: (folds, features, items). fold_B: (requests,). design_BF: (requests, features).
    """

    coefficients_GFN: Float64Array
    fold_B: IntArray
    design_BF: Float64Array

    def at(self, items_B: IntArray) -> Float64Array:
        """Return the predicted reward of one item per request, shape (requests,)."""
        return np.asarray((self.design_BF * self.coefficients_GFN[self.fold_B, :, items_B]).sum(axis=1))

    def all_items(self) -> Float64Array:
        """Return the predicted reward of every item at every request, shape (requests, items)."""
        return np.asarray(np.einsum("bf,bfn->bn", self.design_BF, self.coefficients_GFN[self.fold_B]))

    def mean_over_items(self) -> Float64Array:
        """Return the predicted reward of an item drawn uniformly, shape (requests,)."""
        return np.asarray((self.design_BF * self.coefficients_GFN.mean(axis=2)[self.fold_B]).sum(axis=1))


def fit_rewards(  # noqa: PLR0913 (logged rewards and the settings of the fit)
    rewards_B: Float64Array,
    items_B: IntArray,
    *,
    num_items: int,
    context_BF: Float64Array | None = None,
    groups_B: IntArray | None = None,
    ridge: float = 10.0,
    folds: int = 5,
    seed: int,
) -> RewardModel:
    """Fit a reward model whose prediction at a request never used the request's group.

    Each item's regression is shrunk to the mean reward, as if ``ridge`` more requests had shown just that. Without a
    context an item's prediction is (sum of its rewards + ridge * mean) / (its requests + ridge).

    Args:
        rewards_B: (requests,) observed rewards.
        items_B: (requests,) the item each was observed for.
        num_items: size of the catalogue.
        context_BF: (requests, features) what is known of the request; None uses nothing.
        groups_B: (requests,) requests of one group stay in one fold; None: every request is its own group.
        ridge: strength of the shrinkage.
        folds: number of models; each predicts the groups it was not fitted on.
        seed: decides the folds.
    """
    if not len(rewards_B):
        raise ValueError("a reward model needs at least one logged request, got none; give a log with impressions")
    group_B = np.arange(len(rewards_B)) if groups_B is None else np.unique(groups_B, return_inverse=True)[1]
    fold_G = np.random.default_rng(seed).permutation(int(group_B.max()) + 1) % folds
    fold_B = fold_G[group_B]
    constant_B1 = np.ones((len(rewards_B), 1))
    design_BF = constant_B1 if context_BF is None else np.concatenate([constant_B1, context_BF], axis=1)
    fitted = []
    for fold in range(folds):
        rows_B = fold_B != fold
        fitted.append(
            _coefficients(rewards_B[rows_B], items_B[rows_B], design_BF[rows_B], num_items=num_items, ridge=ridge)
        )
    return RewardModel(coefficients_GFN=np.stack(fitted), fold_B=fold_B, design_BF=design_BF)


def _coefficients(
    rewards_B: Float64Array, items_B: IntArray, design_BF: Float64Array, *, num_items: int, ridge: float
) -> Float64Array:
    """Return one column of ridge coefficients per item, shape (features, items)."""
    mean = float(rewards_B.mean()) if len(rewards_B) else 0.0
    width = design_BF.shape[1]
    coefficients_FN = np.zeros((width, num_items))
    coefficients_FN[0] = mean
    order_B = np.argsort(items_B, kind="stable")
    found, starts = np.unique(items_B[order_B], return_index=True)
    for item, rows in zip(found.tolist(), np.split(order_B, starts[1:]), strict=True):
        x_BF, residual_B = design_BF[rows], rewards_B[rows] - mean
        coefficients_FN[:, item] += np.linalg.solve(x_BF.T @ x_BF + ridge * np.eye(width), x_BF.T @ residual_B)
    return coefficients_FN
