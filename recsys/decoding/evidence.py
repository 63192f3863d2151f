"""Owns the end of decoding: what finished paths say about items, and the slates made of it.

Axes: B batch, N item, P path, C candidate (an item on a path), G group (an item of a row, over its paths).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import Path
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.decoding.paths import Beam, Float64Array, top_per_row

MAX_PATHS_PER_ITEM = 4
MAX_PRUNED = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReachedItems:
    """The items that finished paths lead to, one group per row and item, each with its paths, best first.

    Shape:
        row_G, item_G: (groups,).
        evidence_G: (groups,) the best path evidence.
        offsets_G1: (groups + 1,) start of each group's paths in ``path_C``.
        path_C: (candidates,) indices into the finished beam.
    """

    row_G: IntArray
    item_G: IntArray
    evidence_G: Float64Array
    offsets_G1: IntArray
    path_C: IntArray

    def items_of_row(self, row: int) -> IntArray:
        """Return the items that a row's paths reach, ascending, shape (items of the row,)."""
        start, stop = np.searchsorted(self.row_G, (row, row + 1))
        return self.item_G[start:stop]


def above_worst(reached: ReachedItems, evidence_G: Float64Array, *, rows: int) -> Float64Array:
    """Return how far each group's evidence lies above its row's least: what no path reaches has none, that is 0."""
    worst_B = np.full(rows, np.inf)
    np.minimum.at(worst_B, reached.row_G, evidence_G)
    return np.asarray(evidence_G - worst_B[reached.row_G])


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
    start_G = np.flatnonzero(first_C)
    return ReachedItems(
        row_G=row_C[start_G],
        item_G=item_C[start_G],
        evidence_G=evidence_C[order_C[start_G]],
        offsets_G1=np.concatenate([start_G, [len(order_C)]]),
        path_C=path_C[order_C],
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ranking:
    """The best reached groups of all rows, rows ascending, best first.

    Shape:
        group_R: (entries,) indices of groups; score_R: (entries,); offsets_B1: (rows + 1,).
    """

    group_R: IntArray
    score_R: FloatArray
    offsets_B1: IntArray

    def of_row(self, row: int, reached: ReachedItems) -> "RankedItems":
        """Return one row's entries."""
        part = slice(self.offsets_B1[row], self.offsets_B1[row + 1])
        group_S = self.group_R[part]
        return RankedItems(item_S=reached.item_G[group_S], score_S=self.score_R[part], group_S=group_S)


def rank(reached: ReachedItems, score_G: FloatArray, *, n: int, rows: int) -> Ranking:
    """Return the best ``n`` groups of each row, ties by item index."""
    group_R = top_per_row(reached.row_G, score_G, np.full(rows, n), reached.item_G)
    return Ranking(
        group_R=group_R,
        score_R=score_G[group_R],
        offsets_B1=np.searchsorted(reached.row_G[group_R], np.arange(rows + 1)),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RankedItems:
    """The ranked items of one row, best first.

    Shape:
        item_S, score_S: (entries,).
        group_S: (entries,) the item's group in :class:`ReachedItems`, -1 where no path reached it.
    """

    item_S: IntArray
    score_S: FloatArray
    group_S: IntArray

    def first(self, n: int) -> "RankedItems":
        """Return the ``n`` best items."""
        return RankedItems(item_S=self.item_S[:n], score_S=self.score_S[:n], group_S=self.group_S[:n])


def fill_up(found: RankedItems, head_N: FloatArray, eligible_N: BoolArray | None, *, n: int) -> RankedItems:
    """Append the eligible items the item head likes best until there are ``n``, scored below what paths reached.

    Shape:
        head_N, eligible_N: (items,).
    """
    if len(found.item_S) >= n:
        return found
    more = best_items(head_N, found.item_S, eligible_N, n=n - len(found.item_S))
    if not len(more):
        return found
    below = found.score_S[-1] - 1.0 + (head_N[more] - head_N[more[0]])
    return _joined(found, more, below)


def merge(
    found: RankedItems, head_N: FloatArray, reached: IntArray, eligible_N: BoolArray | None, *, n: int
) -> RankedItems:
    """Rank what paths reached together with all other eligible items, which score what the item head gives them.

    Shape:
        head_N, eligible_N: (items,).
        reached: (items of the row,) every item that a path reaches, in ``found`` or not.
    """
    more = best_items(head_N, reached, eligible_N, n=n)
    both = _joined(found, more, head_N[more])
    best = np.lexsort((both.item_S, -both.score_S))[:n]
    return RankedItems(item_S=both.item_S[best], score_S=both.score_S[best], group_S=both.group_S[best])


def best_items(head_N: FloatArray, taken: IntArray, eligible_N: BoolArray | None, *, n: int) -> IntArray:
    """Return the ``n`` eligible items that are not taken and that the item head likes best, ties by index."""
    left_N = head_N.copy() if eligible_N is None else np.where(eligible_N, head_N, -np.inf)
    left_N[taken] = -np.inf
    if 0 < n < len(left_N):
        # with ties at the edge the partition may take any of them: take all, then order
        edge = np.partition(left_N, len(left_N) - n)[len(left_N) - n]
        first = np.flatnonzero(left_N >= edge)
    else:
        first = np.arange(len(left_N))
    first = first[np.isfinite(left_N[first])]
    return first[np.argsort(-left_N[first], kind="stable")[:n]]


def _joined(found: RankedItems, items: IntArray, scores: FloatArray) -> RankedItems:
    return RankedItems(
        item_S=np.concatenate([found.item_S, items]),
        score_S=np.concatenate([found.score_S, scores]).astype(np.float32),
        group_S=np.concatenate([found.group_S, np.full(len(items), -1)]),
    )


def item_paths(reached: ReachedItems, beam: Beam, group_R: IntArray) -> list[tuple[Path, ...]]:
    """Return the best paths of each group as values for people."""
    made: dict[int, Path] = {}
    result = []
    for start, stop in zip(reached.offsets_G1[group_R], reached.offsets_G1[group_R + 1], strict=True):
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


def cut_paths(cuts: Sequence[Cut], *, rows: int) -> list[tuple[Path, ...]]:
    """Return the most probable cut paths of each row, at most :data:`MAX_PRUNED`."""
    found: list[list[Path]] = [[] for _ in range(rows)]
    limit_B = np.full(rows, MAX_PRUNED)
    for cut in cuts:
        for at in top_per_row(cut.beam.row_P, cut.beam.log_prob_P, limit_B).tolist():
            reason = (
                f"step {cut.step + 1} moved the category by JS {cut.jump_P[at]:.3f}, more than theta {cut.theta:.3f}"
            )
            found[int(cut.beam.row_P[at])].append(cut.beam.path(at, reason=reason))
    return [tuple(sorted(paths, key=lambda path: -path.log_prob)[:MAX_PRUNED]) for paths in found]
