"""From finished paths to slates: the items they reach, their path evidence, and the ranking.

Axes: B request, N item, P path, C candidate item that remains on a path, I reached item of a row, S slate position,
X ranked item of all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np

from recsys.contracts import Path, Slate
from recsys.core.arrays import BoolArray, Float64Array, FloatArray, IntArray
from recsys.decoding.paths import Beam, top_per_row

MAX_PATHS_PER_ITEM = 4
MAX_PRUNED = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReachedItems:
    """The items that finished paths reach, each once per row, with its paths, best first.

    Shape:
        row_I, item_I: (reached items,).
        evidence_I: (reached items,) the best path evidence.
        offsets_I1: (reached items + 1,) start of each item's paths in ``path_C``.
        path_C: (candidates,) indices into the finished beam.
    """

    row_I: IntArray
    item_I: IntArray
    evidence_I: Float64Array
    offsets_I1: IntArray
    path_C: IntArray

    def items_of_row(self, row: int) -> IntArray:
        """Return the items that a row's paths reach, ascending, shape (items of the row,)."""
        start, stop = np.searchsorted(self.row_I, (row, row + 1))
        return self.item_I[start:stop]


def above_worst(reached: ReachedItems, evidence_I: Float64Array, *, rows: int) -> Float64Array:
    """Return how far each item's evidence lies above the least of its row, whose bonus is 0."""
    worst_B = np.full(rows, np.inf)
    np.minimum.at(worst_B, reached.row_I, evidence_I)
    return np.asarray(evidence_I - worst_B[reached.row_I])


def reach(beam: Beam, head_BN: FloatArray | None) -> ReachedItems:
    """Collect the items of all paths with their path evidence.

    The evidence of a path for an item is the path's log-probability plus the log of the item's share in what remains
    of the path: a softmax of the item head inside that set, or equal shares where ``head_BN`` is None. The evidence
    of an item is the maximum over its paths, because the probabilities of different orders don't add up.

    Shape:
        head_BN: (rows, items) log-probabilities of the item head.
    """
    sizes_P, starts_P = beam.candidates.sizes_P, beam.candidates.offsets_P1[:-1]
    item_C, path_C = beam.candidates.items_C, np.repeat(np.arange(len(beam)), sizes_P)
    row_C = beam.row_P[path_C]
    if head_BN is None:
        share_C = -np.log(sizes_P.astype(np.float64))[path_C]
    else:
        head_C = head_BN[row_C, item_C].astype(np.float64)
        head_C -= np.maximum.reduceat(head_C, starts_P)[path_C]
        share_C = head_C - np.log(np.add.reduceat(np.exp(head_C), starts_P))[path_C]
    evidence_C = beam.log_prob_P[path_C] + share_C
    order_C = np.lexsort((-evidence_C, item_C, row_C))
    row_C, item_C = row_C[order_C], item_C[order_C]
    first_C = np.concatenate([[True], (row_C[1:] != row_C[:-1]) | (item_C[1:] != item_C[:-1])])
    start_I = np.flatnonzero(first_C)
    return ReachedItems(
        row_I=row_C[start_I],
        item_I=item_C[start_I],
        evidence_I=evidence_C[order_C[start_I]],
        offsets_I1=np.concatenate([start_I, [len(order_C)]]),
        path_C=path_C[order_C],
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ranking:
    """The best reached items of all rows, rows ascending, best first.

    Shape:
        reached_X: (ranked items,) indices into :class:`ReachedItems`.
        score_X: (ranked items,).
        offsets_B1: (rows + 1,).
    """

    reached_X: IntArray
    score_X: FloatArray
    offsets_B1: IntArray

    def of_row(self, row: int, reached: ReachedItems) -> "RankedItems":
        """Return one row's ranked items."""
        part = slice(self.offsets_B1[row], self.offsets_B1[row + 1])
        reached_S = self.reached_X[part]
        return RankedItems(item_S=reached.item_I[reached_S], score_S=self.score_X[part], reached_S=reached_S)


def rank(reached: ReachedItems, score_I: FloatArray, *, n: int, rows: int) -> Ranking:
    """Return the best ``n`` reached items of each row, ties by item index."""
    reached_X = top_per_row(reached.row_I, score_I, np.full(rows, n), reached.item_I)
    return Ranking(
        reached_X=reached_X,
        score_X=score_I[reached_X],
        offsets_B1=np.searchsorted(reached.row_I[reached_X], np.arange(rows + 1)),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RankedItems:
    """The ranked items of one row, best first.

    Shape:
        item_S, score_S: (slate,).
        reached_S: (slate,) the item's index in :class:`ReachedItems`, -1 where no path reached it.
    """

    item_S: IntArray
    score_S: FloatArray
    reached_S: IntArray

    def first(self, n: int) -> "RankedItems":
        """Return the ``n`` best items."""
        return RankedItems(item_S=self.item_S[:n], score_S=self.score_S[:n], reached_S=self.reached_S[:n])


def fill_up(found: RankedItems, head_N: FloatArray, eligible_N: BoolArray | None, *, n: int) -> RankedItems:
    """Append the eligible items with the highest head scores until there are ``n``, scored below what paths reached.

    Where nothing was found they keep their head scores.

    Shape:
        head_N, eligible_N: (items,).
    """
    if len(found.item_S) >= n:
        return found
    more = best_items(head_N, found.item_S, eligible_N, n=n - len(found.item_S))
    if not len(more):
        return found
    top = found.score_S[-1] - 1.0 if len(found.item_S) else head_N[more[0]]
    return _joined(found, more, top + (head_N[more] - head_N[more[0]]))


def merge(
    found: RankedItems, head_N: FloatArray, reached: IntArray, eligible_N: BoolArray | None, *, n: int
) -> RankedItems:
    """Rank what paths reached together with all other eligible items, which keep their head scores.

    Shape:
        head_N, eligible_N: (items,).
        reached: (items of the row,) every item that a path reaches, in ``found`` or not.
    """
    more = best_items(head_N, reached, eligible_N, n=n)
    both = _joined(found, more, head_N[more])
    best = np.lexsort((both.item_S, -both.score_S))[:n]
    return RankedItems(item_S=both.item_S[best], score_S=both.score_S[best], reached_S=both.reached_S[best])


def best_items(head_N: FloatArray, taken: IntArray, eligible_N: BoolArray | None, *, n: int) -> IntArray:
    """Return the ``n`` eligible items that are not taken with the highest head scores, ties by index."""
    left_N = head_N.copy() if eligible_N is None else np.where(eligible_N, head_N, -np.inf)
    left_N[taken] = -np.inf
    if 0 < n < len(left_N):
        # the n-th best of a part is no better than the n-th best of all: what is below it is not sorted
        part_N = left_N[:: len(left_N) // isqrt(len(left_N) * n)]
        first = np.flatnonzero(left_N >= _nth_best(part_N, n))
        # with ties at the edge the partition may take any of them: take all, then order
        first = first[left_N[first] >= _nth_best(left_N[first], n)]
    else:
        first = np.arange(len(left_N))
    first = first[np.isfinite(left_N[first])]
    return first[np.argsort(-left_N[first], kind="stable")[:n]]


def _nth_best(values: FloatArray, n: int) -> np.float32:
    edge: np.float32 = np.partition(values, len(values) - n)[len(values) - n]
    return edge


def best_slates(scores_BN: FloatArray, eligible_BN: BoolArray | None, *, n: int) -> list[Slate]:
    """Return each row's ``n`` best eligible items of the whole catalogue, without paths.

    Shape:
        scores_BN, eligible_BN: (rows, items).
    """
    nothing = np.empty(0, np.int64)
    slates = []
    for row, scores_N in enumerate(scores_BN):
        items = best_items(scores_N, nothing, None if eligible_BN is None else eligible_BN[row], n=n)
        slates.append(Slate(items=items, scores=scores_N[items]))
    return slates


def _joined(found: RankedItems, items: IntArray, scores: FloatArray) -> RankedItems:
    return RankedItems(
        item_S=np.concatenate([found.item_S, items]),
        score_S=np.concatenate([found.score_S, scores]).astype(np.float32),
        reached_S=np.concatenate([found.reached_S, np.full(len(items), -1)]),
    )


def item_paths(reached: ReachedItems, beam: Beam, reached_X: IntArray) -> list[tuple[Path, ...]]:
    """Return the best paths of each reached item as values of the contract."""
    made: dict[int, Path] = {}
    result = []
    for start, stop in zip(reached.offsets_I1[reached_X], reached.offsets_I1[reached_X + 1], strict=True):
        ids = reached.path_C[start : min(stop, start + MAX_PATHS_PER_ITEM)].tolist()
        for at in ids:
            if at not in made:
                made[at] = beam.path(at)
        result.append(tuple(made[at] for at in ids))
    return result


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cut:
    """Paths that were cut at one step, each with its jump between the category distributions.

    Shape:
        jump_P: (paths,).
    """

    beam: Beam
    jump_P: FloatArray
    step: int
    theta: float

    def reason(self, at: int) -> str:
        """Return in words why a path was cut."""
        jump = f"step {self.step + 1} moved the category by JS {self.jump_P[at]:.3f}"
        return f"{jump}, more than theta {self.theta:.3f}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UnlikelyPaths:
    """Finished paths that were taken out because they are improbable beside the other paths of their row."""

    beam: Beam
    rule: str

    def reason(self, at: int) -> str:
        """Return in words why a path was taken out."""
        return f"its probability {np.exp(self.beam.log_prob_P[at]):.3g} is low among its history's paths ({self.rule})"


def cut_paths(cuts: Sequence[Cut | UnlikelyPaths], *, rows: int) -> list[tuple[Path, ...]]:
    """Return the most probable cut paths of each row, at most :data:`MAX_PRUNED`."""
    found: list[list[Path]] = [[] for _ in range(rows)]
    limit_B = np.full(rows, MAX_PRUNED)
    for cut in cuts:
        for at in top_per_row(cut.beam.row_P, cut.beam.log_prob_P, limit_B).tolist():
            found[int(cut.beam.row_P[at])].append(cut.beam.path(at, reason=cut.reason(at)))
    return [tuple(sorted(paths, key=lambda path: -path.log_prob)[:MAX_PRUNED]) for paths in found]
