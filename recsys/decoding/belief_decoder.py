"""From distributions over items to slates: paths are searched by one, and what they reach is ranked by another.

Axes: B request, N item, P path, S slate position.
"""

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import Path, Slate
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.decoding.belief_search import BeliefSearch
from recsys.decoding.beliefs import Categories, PathSearch, Searcher, bounded, item_probabilities
from recsys.decoding.config import BeliefSearchConfig
from recsys.decoding.evidence import RankedItems, ReachedItems, best_slates, cut_paths, fill_up, item_paths, rank, reach
from recsys.decoding.paths import Beam

CHUNK_ROWS = 32
"""Histories that are searched at once, so that the lists of all their paths fit in a processor's cache."""


def decode_beliefs(  # noqa: PLR0913 (beliefs, ranking scores, index, search settings)
    belief_BN: FloatArray,
    rank_BN: FloatArray,
    index: ValidityIndex,
    *,
    n: int,
    config: BeliefSearchConfig,
    eligible_BN: BoolArray | None = None,
    categories: Categories | None = None,
    trace: bool = True,
    searcher: Searcher = BeliefSearch,
) -> list[Slate]:
    """Return one slate per row with ``min(n, eligible items)`` distinct eligible items, best first.

    Where the config ranks reached items only and they are too few, the best of the others follow. With ``trace`` every
    item that a path reached has its paths beside it, the most probable first; items that none reached have no path.

    Shape:
        belief_BN: (rows, items) log-probabilities that decide the steps of paths.
        rank_BN: (rows, items) scores that order the slate.
        eligible_BN: (rows, items), True means the item may be recommended; None allows all.
    ``searcher`` makes the search of a chunk of rows; all find the same paths.

    Raises:
        DecodingError: a log-probability or a score is NaN or plus infinity.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}; ask for one item or more")
    slates: list[Slate] = []
    for start in range(0, len(belief_BN), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        eligible = None if eligible_BN is None else eligible_BN[rows]
        ranking_BN = bounded(rank_BN[rows], "scores of items")
        if config.ranked == "catalogue" and not trace:
            slates += best_slates(ranking_BN, eligible, n=n)
            continue
        search = searcher(index, item_probabilities(belief_BN[rows], eligible), config, categories=categories)
        slates += _searched(search, ranking_BN, eligible, n=n, trace=trace)
    return slates


def _searched(
    search: PathSearch, rank_BN: FloatArray, eligible_BN: BoolArray | None, *, n: int, trace: bool
) -> list[Slate]:
    """Return the slates of one chunk of rows."""
    row_P = np.flatnonzero(search.index.start(len(rank_BN), eligible_BN).sizes_P)
    if not len(row_P):
        return [Slate(items=np.empty(0, np.int64), scores=np.empty(0, np.float32)) for _ in rank_BN]
    beam = search.run(row_P, None if eligible_BN is None else eligible_BN[row_P])
    reached = reach(beam, rank_BN)
    if search.config.ranked == "catalogue":
        items = [slate.items for slate in best_slates(rank_BN, eligible_BN, n=n)]
        entries = [_known(item_S, rank_BN[row], reached, row) for row, item_S in enumerate(items)]
    else:
        entries = _best_reached(reached, rank_BN, eligible_BN, n=n)
    if not trace:
        return [Slate(items=entry.item_S, scores=entry.score_S) for entry in entries]
    pruned = cut_paths(search.cuts, rows=len(entries))
    return [
        Slate(items=entry.item_S, scores=entry.score_S, paths=_paths(entry, reached, beam), pruned=pruned[row])
        for row, entry in enumerate(entries)
    ]


def _best_reached(
    reached: ReachedItems, rank_BN: FloatArray, eligible_BN: BoolArray | None, *, n: int
) -> list[RankedItems]:
    """Return each row's best reached items, filled up with others where they are too few."""
    score_I = rank_BN[reached.row_I, reached.item_I]
    ranking = rank(reached, score_I, n=n, rows=len(rank_BN))
    return [
        fill_up(
            ranking.of_row(row, reached),
            rank_BN[row],
            None if eligible_BN is None else eligible_BN[row],
            n=n,
        )
        if len(reached.items_of_row(row))
        else RankedItems(item_S=np.empty(0, np.int64), score_S=np.empty(0, np.float32), reached_S=np.empty(0, np.int64))
        for row in range(len(rank_BN))
    ]


def _known(item_S: IntArray, rank_N: FloatArray, reached: ReachedItems, row: int) -> RankedItems:
    """Return ranked items with their indices among what the row's paths reached, -1 where none did."""
    start, own_I = int(np.searchsorted(reached.row_I, row)), reached.items_of_row(row)
    at_S = np.searchsorted(own_I, item_S)
    reached_S = np.where(np.isin(item_S, own_I), start + at_S, -1)
    return RankedItems(item_S=item_S, score_S=rank_N[item_S], reached_S=reached_S)


def _paths(entry: RankedItems, reached: ReachedItems, beam: Beam) -> tuple[tuple[Path, ...], ...]:
    """Return the searched paths to each entry, none where no path reached it."""
    found_S = np.flatnonzero(entry.reached_S >= 0)
    paths: list[tuple[Path, ...]] = [()] * len(entry.reached_S)
    for at, own in zip(found_S.tolist(), item_paths(reached, beam, entry.reached_S[found_S]), strict=True):
        paths[at] = own
    return tuple(paths)
