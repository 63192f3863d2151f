"""Decoding: from histories and a step scorer to slates, all rows and paths of a batch at once.

Axes: B request, P path, N item, S slate position.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, ItemScorer, Path, Slate, StepScorer
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.errors import DecodingError
from recsys.decoding.config import DecoderConfig, RankingConfig
from recsys.decoding.evidence import (
    RankedItems,
    ReachedItems,
    above_worst,
    best_slates,
    cut_paths,
    fill_up,
    item_paths,
    merge,
    rank,
    reach,
)
from recsys.decoding.paths import Beam
from recsys.decoding.retrace import retrace
from recsys.decoding.search import Search, require_numbers

_LOWEST_LOG_PROB = np.float32(-1e30)


def decode(  # noqa: PLR0913 (the entry of the package: scorers, histories, settings)
    scorer: StepScorer,
    index: ValidityIndex,
    histories: Sequence[History],
    *,
    n: int,
    config: DecoderConfig,
    item_scorer: ItemScorer | None = None,
    eligible_BN: BoolArray | None = None,
    trace: bool = True,
) -> list[Slate]:
    """Return one slate per history of distinct eligible items, best first.

    With an item scorer in the ranking a slate has ``min(n, eligible items)`` items: all eligible items are ranked, and
    what live paths reach has a bonus of path evidence; or, by the config, only reached items are ranked, and the
    scorer's best follow where they are too few. Without one (``config.ranking.item_head`` is False) path evidence ranks
    what paths reach, nothing fills the slate up, and it is shorter where paths reach fewer than ``n`` items.

    Every item comes with a path. ``trace=False`` leaves out all paths; where they have no weight, none is searched,
    which saves most of the time.

    Args:
        scorer: scores the steps of paths.
        index: the catalogue's.
        histories: what to decode for.
        n: how many items are wanted.
        config: how to search and to rank.
        item_scorer: scores items from the scorer's context; called only where the config gives it a weight.
        eligible_BN: (histories, items), True means the item may be recommended; None allows all.
        trace: whether slates have paths.

    Raises:
        DecodingError: the config needs an item scorer and there is none; or a score is not a number.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}; ask for one item or more")
    if config.reads_items and item_scorer is None:
        raise DecodingError(
            "this config needs an item scorer, got none; give one, or set ranking.item_head to false and "
            "search.guidance to 0"
        )
    eligible_B = index.start(len(histories), eligible_BN).sizes_P
    row_P = np.flatnonzero(eligible_B)
    if not len(row_P):
        return [Slate(items=np.empty(0, np.int64), scores=np.empty(0, np.float32)) for _ in histories]
    context = scorer.encode(histories)
    head_BN = _item_scores(item_scorer, context) if item_scorer is not None and config.reads_items else None
    ranking_BN = head_BN if config.ranking.item_head else None
    if ranking_BN is not None and config.ranking.head_decides and not trace:
        return best_slates(ranking_BN, eligible_BN, n=n)
    search = Search(scorer, context, index, head_BN, config.search)
    beam = search.run(row_P, None if eligible_BN is None else eligible_BN[row_P], rows=len(histories))
    reached = reach(beam, ranking_BN)
    entries = _ranked(reached, ranking_BN, eligible_BN, wanted_B=np.minimum(eligible_B, n), config=config.ranking)
    if not trace:
        return [Slate(items=entry.item_S, scores=entry.score_S) for entry in entries]
    return _with_paths(entries, reached, beam, search)


def _item_scores(item_scorer: ItemScorer, context: Any) -> FloatArray:
    """Return the item scorer's log-probabilities, none below the lowest that sums can bear."""
    head_BN = item_scorer.score_items(context)
    require_numbers(head_BN, "item log-probabilities")
    return np.maximum(head_BN, _LOWEST_LOG_PROB)


def _ranked(
    reached: ReachedItems,
    head_BN: FloatArray | None,
    eligible_BN: BoolArray | None,
    *,
    wanted_B: IntArray,
    config: RankingConfig,
) -> list[RankedItems]:
    """Return each row's best items, by path evidence alone or by item scores with a bonus of path evidence."""
    rows = len(wanted_B)
    score_I = reached.evidence_I
    if head_BN is not None:
        bonus_I = config.path_weight * above_worst(reached, score_I, rows=rows)
        score_I = head_BN[reached.row_I, reached.item_I] + bonus_I
    ranking = rank(reached, score_I.astype(np.float32), n=int(wanted_B.max()), rows=rows)
    entries = []
    for row, wanted in enumerate(wanted_B.tolist()):
        found = ranking.of_row(row, reached)
        eligible_N = None if eligible_BN is None else eligible_BN[row]
        if head_BN is None:
            entries.append(found.first(wanted))
        elif config.ranked == "catalogue":
            entries.append(merge(found, head_BN[row], reached.items_of_row(row), eligible_N, n=wanted))
        else:
            entries.append(fill_up(found, head_BN[row], eligible_N, n=wanted))
    return entries


def _with_paths(entries: list[RankedItems], reached: ReachedItems, beam: Beam, search: Search) -> list[Slate]:
    """Return slates with the paths to each item, retraced where no searched path reached it, and the cut paths."""
    reached_S = np.concatenate([entry.reached_S for entry in entries])
    row_S = np.repeat(np.arange(len(entries)), [len(entry.reached_S) for entry in entries])
    item_S = np.concatenate([entry.item_S for entry in entries])
    paths: list[tuple[Path, ...]] = [()] * len(reached_S)
    found_X = np.flatnonzero(reached_S >= 0)
    for at, own in zip(found_X.tolist(), item_paths(reached, beam, reached_S[found_X]), strict=True):
        paths[at] = own
    missed_X = np.flatnonzero(reached_S < 0)
    retraced = retrace(
        lambda live: search.score(live).logits_PMK,
        search.index,
        (row_S[missed_X], item_S[missed_X]),
        finish_below=search.config.finish_below,
        min_steps=search.config.min_steps,
    )
    for at, path in zip(missed_X.tolist(), retraced, strict=True):
        paths[at] = (path,)
    pruned = cut_paths(search.cuts, rows=len(entries))
    stops = np.searchsorted(row_S, np.arange(len(entries) + 1))
    return [
        Slate(items=entry.item_S, scores=entry.score_S, paths=tuple(paths[start:stop]), pruned=pruned[row])
        for row, (entry, start, stop) in enumerate(zip(entries, stops[:-1], stops[1:], strict=True))
    ]
