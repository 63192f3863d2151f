"""The state of a beam: partial paths as arrays, how they grow, and how they are ranked and deduplicated.

Axes: P path, M codebook, Q category, X expansion (a path and one more code).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.codes.validity import Candidates, ValidityIndex, join_candidates
from recsys.contracts import Path, Step
from recsys.core.arrays import BoolArray, Float64Array, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Expansions:
    """Paths with one more code each, not grown yet.

    Shape:
        parent_X: (expansions,) index of the path that grows.
        codebook_X, code_X: (expansions,) the code that is added.
        step_log_prob_X: (expansions,) log-probability of that code.
        log_prob_X: (expansions,) log-probability of the whole new path.
    """

    parent_X: IntArray
    codebook_X: IntArray
    code_X: IntArray
    step_log_prob_X: Float64Array
    log_prob_X: Float64Array

    def take(self, at_X: IntArray | BoolArray) -> "Expansions":
        """Return some expansions, by index or mask."""
        return Expansions(
            parent_X=self.parent_X[at_X],
            codebook_X=self.codebook_X[at_X],
            code_X=self.code_X[at_X],
            step_log_prob_X=self.step_log_prob_X[at_X],
            log_prob_X=self.log_prob_X[at_X],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Beam:
    """Paths of all rows.

    Shape:
        row_P: (paths,) the row of the batch.
        codes_PM: (paths, codebooks) chosen codes, -1 where free.
        log_prob_P: (paths,) summed log-probability.
        order_PM: (paths, codebooks) the step at which a codebook was chosen, -1 where free.
        confidence_PM: (paths, codebooks) probability of the chosen code, 0 where free.
        category_PQ: (paths, categories) the latest category distribution that was predicted on the path.
        candidates: the items that remain.
    """

    row_P: IntArray
    codes_PM: IntArray
    log_prob_P: Float64Array
    order_PM: IntArray
    confidence_PM: FloatArray
    category_PQ: FloatArray
    candidates: Candidates

    def __len__(self) -> int:
        return len(self.row_P)

    def take(self, path_P: IntArray) -> "Beam":
        """Return some paths, in the given order."""
        return Beam(
            row_P=self.row_P[path_P],
            codes_PM=self.codes_PM[path_P],
            log_prob_P=self.log_prob_P[path_P],
            order_PM=self.order_PM[path_P],
            confidence_PM=self.confidence_PM[path_P],
            category_PQ=self.category_PQ[path_P],
            candidates=self.candidates.take(path_P),
        )

    def with_category(self, category_PQ: FloatArray) -> "Beam":
        """Return the same paths with newly predicted category distributions."""
        return replace(self, category_PQ=category_PQ)

    def codes_of(self, expansions: Expansions) -> IntArray:
        """Return the codes of grown paths, shape (expansions, codebooks)."""
        codes_XM = self.codes_PM[expansions.parent_X]
        codes_XM[np.arange(len(codes_XM)), expansions.codebook_X] = expansions.code_X
        return codes_XM

    def grow(self, expansions: Expansions, index: ValidityIndex, *, step: int) -> "Beam":
        """Return one new path per expansion; the category distribution is still the parent's."""
        parent_X, codebook_X = expansions.parent_X, expansions.codebook_X
        path_X = np.arange(len(parent_X))
        order_XM, confidence_XM = self.order_PM[parent_X], self.confidence_PM[parent_X]
        order_XM[path_X, codebook_X] = step
        confidence_XM[path_X, codebook_X] = np.exp(expansions.step_log_prob_X)
        return Beam(
            row_P=self.row_P[parent_X],
            codes_PM=self.codes_of(expansions),
            log_prob_P=expansions.log_prob_X,
            order_PM=order_XM,
            confidence_PM=confidence_XM,
            category_PQ=self.category_PQ[parent_X],
            candidates=index.choose(self.candidates, parent_X, codebook_X, expansions.code_X),
        )

    def path(self, at: int, *, reason: str = "") -> Path:
        """Return one path as a value of the contract; with a reason it is a pruned path."""
        # a path has a few steps: plain numbers are sorted sooner than an array is indexed
        order_M = self.order_PM[at].tolist()
        codes_M, confidence_M = self.codes_PM[at], self.confidence_PM[at]
        chosen = sorted((step, book) for book, step in enumerate(order_M) if step >= 0)
        steps = tuple(
            Step(codebook=book, code=int(codes_M[book]), confidence=min(float(confidence_M[book]), 1.0))
            for _, book in chosen
        )
        return Path(steps=steps, log_prob=float(self.log_prob_P[at]), pruned=bool(reason), reason=reason)


def root_beam(row_P: IntArray, candidates: Candidates, *, num_codebooks: int) -> Beam:
    """Return one path without codes per given row, its category not predicted yet.

    Shape:
        row_P: (paths,).
    """
    free_PM = np.full((len(row_P), num_codebooks), -1, np.int64)
    return Beam(
        row_P=row_P,
        codes_PM=free_PM,
        log_prob_P=np.zeros(len(row_P), np.float64),
        order_PM=free_PM.copy(),
        confidence_PM=np.zeros(free_PM.shape, np.float32),
        category_PQ=np.zeros((len(row_P), 1), np.float32),
        candidates=candidates,
    )


def join_beams(beams: Sequence[Beam]) -> Beam:
    """Return the paths of several beams, one beam after another."""
    if len(beams) == 1:
        return beams[0]
    return Beam(
        row_P=np.concatenate([beam.row_P for beam in beams]),
        codes_PM=np.concatenate([beam.codes_PM for beam in beams]),
        log_prob_P=np.concatenate([beam.log_prob_P for beam in beams]),
        order_PM=np.concatenate([beam.order_PM for beam in beams]),
        confidence_PM=np.concatenate([beam.confidence_PM for beam in beams]),
        category_PQ=np.concatenate([beam.category_PQ for beam in beams]),
        candidates=join_candidates([beam.candidates for beam in beams]),
    )


def top_per_row(
    row_X: IntArray, score_X: NDArray[np.floating], limit_B: IntArray, tie_X: IntArray | None = None
) -> IntArray:
    """Return the indices of the best entries of each row, rows ascending, best first; ties by ``tie_X`` or position.

    Shape:
        row_X, score_X, tie_X: (entries,).
        limit_B: (rows,) how many each row keeps at most.
    """
    keys = (-score_X, row_X) if tie_X is None else (tie_X, -score_X, row_X)
    order_X = np.lexsort(keys)
    rank_X = rank_in_row(row_X[order_X])
    return order_X[rank_X < limit_B[row_X[order_X]]]


def rank_in_row(sorted_row_X: IntArray) -> IntArray:
    """Return each entry's place in its row, from 0, for rows in ascending order, shape (entries,)."""
    return np.arange(len(sorted_row_X)) - np.searchsorted(sorted_row_X, sorted_row_X)


def deduplicate(row_P: IntArray, codes_PM: IntArray, log_prob_P: Float64Array) -> IntArray:
    """Return the indices, ascending, of the best path of each set of codes, whatever the order of choices.

    Shape:
        row_P, log_prob_P: (paths,).
        codes_PM: (paths, codebooks), -1 where free.
    """
    if not len(row_P):
        return np.empty(0, np.int64)
    order_P = np.lexsort((-log_prob_P, *codes_PM.T, row_P))
    keys = np.column_stack([row_P, codes_PM])[order_P]
    first_P = np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
    return np.sort(order_P[first_P])
