"""Imputes the behavioural rows of items without events: a ridge regression from their other blocks.

Axes: N item, X feature of the other blocks side by side, F feature of the behavioural block.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge

from recsys.core.arrays import BoolArray, FloatArray

BEHAVIOURAL = "behavioural"


def present(block_NF: FloatArray) -> BoolArray:
    """Return which items have a row that is not all zeros in a block, shape (items,)."""
    return np.asarray(block_NF.any(axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class BehaviourImputer:
    """A linear map from the other blocks to the behavioural one.

    Each block is centred on the mean of its present rows, and a missing row counts as that mean. So an item
    of which nothing is known gets the mean behaviour. A guess is shorter than the unit row of a used item, the more so
    the less the other blocks tell.

    Shape:
        means: by block name, (block width,). coefficients_XF: (their widths together, behavioural width).
        intercept_F: (behavioural width,).
    """

    means: dict[str, FloatArray]
    coefficients_XF: FloatArray
    intercept_F: FloatArray

    @classmethod
    def fit(cls, blocks: Mapping[str, FloatArray], *, ridge: float) -> "BehaviourImputer | None":
        """Fit on the items that have behaviour; None where no item has."""
        used_N = present(blocks[BEHAVIOURAL])
        if not used_N.any():
            return None
        others = {name: block[used_N] for name, block in blocks.items() if name != BEHAVIOURAL}
        means = {name: _mean_present(block) for name, block in others.items()}
        known_NX, wanted_NF = _centred(others, means), blocks[BEHAVIOURAL][used_N]
        if known_NX.shape[1] == 0:
            none_XF = np.zeros((0, wanted_NF.shape[1]), np.float32)
            return cls(means=means, coefficients_XF=none_XF, intercept_F=wanted_NF.mean(axis=0))
        fitted = Ridge(alpha=ridge, solver="cholesky").fit(known_NX, wanted_NF)
        return cls(
            means=means,
            coefficients_XF=np.ascontiguousarray(np.atleast_2d(fitted.coef_).T, dtype=np.float32),
            intercept_F=np.atleast_1d(fitted.intercept_).astype(np.float32),
        )

    def predict(self, blocks: Mapping[str, FloatArray]) -> FloatArray:
        """Return guessed behavioural rows, none longer than one, shape (items, behavioural width)."""
        rows = len(next(iter(blocks.values())))
        known_NX = _centred({name: blocks[name] for name in self.means}, self.means, rows)
        guess_NF = known_NX @ self.coefficients_XF + self.intercept_F
        lengths_N1 = np.linalg.norm(guess_NF, axis=1, keepdims=True)
        return np.asarray(guess_NF / np.maximum(lengths_N1, 1.0), np.float32)

    def fill(self, blocks: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the blocks with each missing behavioural row guessed."""
        missing_N1 = ~present(blocks[BEHAVIOURAL])[:, None]
        if not missing_N1.any():
            return dict(blocks)
        return {**blocks, BEHAVIOURAL: np.where(missing_N1, self.predict(blocks), blocks[BEHAVIOURAL])}


def _mean_present(block_NF: FloatArray) -> FloatArray:
    rows_NF = block_NF[present(block_NF)]
    return rows_NF.mean(axis=0) if len(rows_NF) else np.zeros(block_NF.shape[1], np.float32)


def _centred(blocks: Mapping[str, FloatArray], means: Mapping[str, FloatArray], rows: int = 0) -> FloatArray:
    parts = [np.where(present(block)[:, None], block - means[name], 0.0) for name, block in blocks.items()]
    return np.concatenate(parts, axis=1).astype(np.float32) if parts else np.zeros((rows, 0), np.float32)
