"""A distribution over items as a step scorer of decoding: exact conditionals of codes and of categories.

Axes: B request, P path, M codebook, K code, N item, Q category, C candidate item of a path.
"""

from collections.abc import Sequence

import numpy as np

from recsys.codes.validity import Candidates, ValidityIndex
from recsys.contracts import History, ItemScores, StepScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.decoding.item_probabilities import Categories

_FLOOR = 1e-30


class TokenScorer:
    """Scores steps by sums of item probabilities over the items that are still valid, and items by the same.

    The logit of a code is the log of the probability of the items that have it beside the codes chosen so far, so a
    softmax over the codes of any codebook is the exact conditional, and all orders of choices agree.
    """

    def __init__(self, log_probs: ItemScores, index: ValidityIndex, categories: Categories) -> None:
        self.log_probs, self.index, self.categories = log_probs, index, categories

    def encode(self, histories: Sequence[History]) -> FloatArray:
        """Return the log-probability of every item after each history, (histories, items)."""
        return self.log_probs(histories)

    def score_items(self, context: FloatArray) -> FloatArray:
        """Return the log-probabilities themselves, (histories, items)."""
        return context

    def score_steps(self, context: FloatArray, row_P: IntArray, codes_PM: IntArray) -> StepScores:
        """Return the exact conditionals of codes, as logits, and of categories, given the codes chosen so far.

        Shape:
            row_P: (paths,).
            codes_PM: (paths, codebooks), -1 where a codebook is free.
        """
        logits_PMK = np.empty((len(row_P), self.index.num_codebooks, self.index.codebook_size), np.float32)
        category_PQ = np.empty((len(row_P), self.categories.count), np.float32)
        depth_P = (codes_PM >= 0).sum(axis=1)
        for depth in np.unique(depth_P).tolist():
            at = np.flatnonzero(depth_P == depth)
            path_C, item_C = self._remaining(codes_PM[at], depth)
            log_prob_C = context[row_P[at][path_C], item_C]
            best_P = np.full(len(at), -np.inf, np.float32)
            np.maximum.at(best_P, path_C, log_prob_C)
            prob_C = np.exp(log_prob_C - best_P[path_C])
            for book, code_N in enumerate(self.index.codes_MN):
                mass_PK = _sums(path_C, code_N[item_C], prob_C, shape=(len(at), self.index.codebook_size))
                logits_PMK[at, book] = np.log(np.maximum(mass_PK, _FLOOR))
            mass_PQ = _sums(path_C, self.categories.category_N[item_C], prob_C, shape=(len(at), self.categories.count))
            category_PQ[at] = mass_PQ / mass_PQ.sum(axis=1, keepdims=True)
        return StepScores(logits_PMK=logits_PMK, category_PQ=category_PQ)

    def _remaining(self, codes_PM: IntArray, depth: int) -> tuple[IntArray, IntArray]:
        """Return the paths and the items that remain on them, as pairs; every path has the same depth."""
        paths = len(codes_PM)
        if depth == 0:
            return np.repeat(np.arange(paths), self.index.num_items), np.tile(np.arange(self.index.num_items), paths)
        chosen_PD = np.nonzero(codes_PM >= 0)[1].reshape(paths, depth)
        candidates: Candidates = self.index.start(paths)
        for step in range(depth):
            book_P = chosen_PD[:, step]
            candidates = self.index.choose(candidates, np.arange(paths), book_P, codes_PM[np.arange(paths), book_P])
        return np.repeat(np.arange(paths), candidates.sizes_P), candidates.items_C


def _sums(path_C: IntArray, value_C: IntArray, prob_C: FloatArray, *, shape: tuple[int, int]) -> FloatArray:
    """Return the probability that each path has on each value, with the given shape (paths, values)."""
    mass = np.bincount(path_C * shape[1] + value_C, weights=prob_C, minlength=shape[0] * shape[1])
    return mass.reshape(shape).astype(np.float32)
