"""From distributions over items to slates: paths are searched by one, and what they reach is ranked by another.

Axes: B request, N item, P path, S slate position, V kept-for item.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import Path, Slate
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.evidence import (
    RankedItems,
    ReachedItems,
    best_slates,
    cut_paths,
    fill_up,
    item_paths,
    rank,
    reach,
)
from recsys.decoding.item_probabilities import Categories, PathSearch, Searcher, bounded, item_probabilities
from recsys.decoding.kept_places import KeptPlaces, fill_places
from recsys.decoding.marginal_search import MarginalSearch
from recsys.decoding.paths import Beam

CHUNK_ROWS = 32
"""Histories that are searched at once, so that the lists of all their paths fit in a processor's cache."""


def decode_by_marginals(  # noqa: PLR0913 (log-probabilities, ranking scores, index, settings)
    log_prob_BN: FloatArray,
    rank_BN: FloatArray,
    index: ValidityIndex,
    *,
    n: int,
    config: MarginalSearchConfig,
    eligible_BN: BoolArray | None = None,
    categories: Categories | None = None,
    trace: bool = True,
    searcher: Searcher = MarginalSearch,
    kept: KeptPlaces | None = None,
) -> list[Slate]:
    """Return one slate per row with ``min(n, eligible items)`` distinct eligible items, best first.

    Where the config ranks reached items only and they are too few, the best of the others follow. With ``trace`` every
    item that a path reached has its paths beside it, the most probable first; items that none reached have no path.

    Items that places are kept for (see :mod:`recsys.decoding.kept_places`) are ranked all, whether a path reached them
    or not, by ``rank_BN`` and what is added to it.

    Shape:
        log_prob_BN: (rows, items) log-probabilities that decide the steps of paths.
        rank_BN: (rows, items) scores that order the slate.
        eligible_BN: (rows, items), True means the item may be recommended; None allows all.
    ``searcher`` makes the search of a chunk of rows; all find the same paths.

    Raises:
        DecodingError: a log-probability or a score is NaN or plus infinity.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}; ask for one item or more")
    slates: list[Slate] = []
    for start in range(0, len(log_prob_BN), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        eligible = None if eligible_BN is None else eligible_BN[rows]
        ranking_BN = bounded(rank_BN[rows], "scores of items")
        own = None if kept is None else kept.rows(rows)
        if config.ranked == "catalogue" and not trace:
            slates += _unsearched(ranking_BN, eligible, n=n, kept=own)
            continue
        search = searcher(index, item_probabilities(log_prob_BN[rows], eligible), config, categories=categories)
        slates += _searched(search, ranking_BN, eligible, n=n, trace=trace, kept=own)
    return slates


def _unsearched(rank_BN: FloatArray, eligible_BN: BoolArray | None, *, n: int, kept: KeptPlaces | None) -> list[Slate]:
    """Return the slates of one chunk of rows over the whole catalogue, without paths."""
    if kept is None:
        return best_slates(rank_BN, eligible_BN, n=n)
    others_BN = kept.others(rank_BN.shape, eligible_BN)
    entries = [
        _known(slate.items, rank_N) for slate, rank_N in zip(best_slates(rank_BN, others_BN, n=n), rank_BN, strict=True)
    ]
    return [_without_paths(entry) for entry in _with_kept(kept, entries, rank_BN, eligible_BN, n=n)]


def _searched(
    search: PathSearch,
    rank_BN: FloatArray,
    eligible_BN: BoolArray | None,
    *,
    n: int,
    trace: bool,
    kept: KeptPlaces | None,
) -> list[Slate]:
    """Return the slates of one chunk of rows."""
    row_P = np.flatnonzero(search.index.start(len(rank_BN), eligible_BN).sizes_P)
    if not len(row_P):
        return [Slate(items=np.empty(0, np.int64), scores=np.empty(0, np.float32)) for _ in rank_BN]
    beam = search.run(row_P, None if eligible_BN is None else eligible_BN[row_P])
    reached = reach(beam, rank_BN)
    ranked_BN = eligible_BN if kept is None else kept.others(rank_BN.shape, eligible_BN)
    if search.config.ranked == "catalogue":
        best = best_slates(rank_BN, ranked_BN, n=n)
        entries = [_known(slate.items, rank_BN[row], reached, row) for row, slate in enumerate(best)]
    else:
        entries = _best_reached(reached, rank_BN, ranked_BN, n=n)
    if kept is not None:
        entries = _with_kept(kept, entries, rank_BN, eligible_BN, n=n, reached=reached)
    if not trace:
        return [_without_paths(entry) for entry in entries]
    pruned = cut_paths(search.cuts, rows=len(entries))
    return [
        Slate(items=entry.item_S, scores=entry.score_S, paths=_paths(entry, reached, beam), pruned=pruned[row])
        for row, entry in enumerate(entries)
    ]


def _with_kept(
    kept: KeptPlaces,
    others: Sequence[RankedItems],
    rank_BN: FloatArray,
    eligible_BN: BoolArray | None,
    *,
    n: int,
    reached: ReachedItems | None = None,
) -> list[RankedItems]:
    """Return each row's slate of the other items, and of those that places are kept for by their scores."""
    found = []
    for row, (other, rank_N) in enumerate(zip(others, rank_BN, strict=True)):
        own = kept.ranked(rank_N, None if eligible_BN is None else eligible_BN[row], row=row, n=n)
        if reached is not None:
            own = replace(own, reached_S=_known(own.item_S, rank_N, reached, row).reached_S)
        found.append(fill_places(other, own, share=kept.share, n=n))
    return found


def _without_paths(entry: RankedItems) -> Slate:
    return Slate(items=entry.item_S, scores=entry.score_S)


def _best_reached(
    reached: ReachedItems, rank_BN: FloatArray, eligible_BN: BoolArray | None, *, n: int
) -> list[RankedItems]:
    """Return each row's best reached items that are eligible, filled up with others where they are too few."""
    score_I = rank_BN[reached.row_I, reached.item_I]
    if eligible_BN is not None:
        score_I[~eligible_BN[reached.row_I, reached.item_I]] = -np.inf
    ranking = rank(reached, score_I, n=n, rows=len(rank_BN))
    entries = []
    for row in range(len(rank_BN)):
        found = ranking.of_row(row, reached)
        found = found.first(int(np.isfinite(found.score_S).sum()))
        if len(reached.items_of_row(row)):
            found = fill_up(found, rank_BN[row], None if eligible_BN is None else eligible_BN[row], n=n)
        entries.append(found)
    return entries


def _known(item_S: IntArray, rank_N: FloatArray, reached: ReachedItems | None = None, row: int = 0) -> RankedItems:
    """Return ranked items with their indices among what the row's paths reached, -1 where none did."""
    reached_S = np.full(len(item_S), -1)
    if reached is not None:
        start, own_I = int(np.searchsorted(reached.row_I, row)), reached.items_of_row(row)
        reached_S = np.where(np.isin(item_S, own_I), start + np.searchsorted(own_I, item_S), -1)
    return RankedItems(item_S=item_S, score_S=rank_N[item_S], reached_S=reached_S)


def _paths(entry: RankedItems, reached: ReachedItems, beam: Beam) -> tuple[tuple[Path, ...], ...]:
    """Return the searched paths to each entry, none where no path reached it."""
    found_S = np.flatnonzero(entry.reached_S >= 0)
    paths: list[tuple[Path, ...]] = [()] * len(entry.reached_S)
    for at, own in zip(found_S.tolist(), item_paths(reached, beam, entry.reached_S[found_S]), strict=True):
        paths[at] = own
    return tuple(paths)
