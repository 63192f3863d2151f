"""Sources of evidence about items, and their weighted sums: one searches paths, one ranks.

Axes: B request, N item, I new item.
"""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import History, ItemScores, Scorer
from recsys.core.arrays import FloatArray, IntArray
from recsys.decoding.kept_places import KeptPlaces
from recsys.recommender.batch_cache import BatchCache


@dataclass(frozen=True, kw_only=True, eq=False)
class NewItemEvidence:
    """The one source whose log-probabilities count for some items, for which the others learned nothing.

    Shape:
        item_I: (new items,) which items these are.
    """

    source: str
    item_I: IntArray
    bonus: float = 0.0
    """What is added to their log-probabilities."""
    share: float = 0.0
    """The share of a slate's places that is kept for them; 0 ranks them among the others by score."""
    likeness: ItemScores | None = None
    """What is added to their log-probabilities to order them in kept places, (histories, new items)."""


class Evidence:
    """Log-probabilities of several sources, summed by two sets of weights: one searches paths, one ranks.

    Args:
        sources: by name, each a function that scores every item; one that has no weight may be missing.
        search_weights: weights of the sum that decides the steps of paths; sources that are not named count 0.
        rank_weights: weights of the sum that orders the slate.
        new_items: which source alone counts for which items, times the sum of the weights.
    """

    def __init__(
        self,
        sources: Mapping[str, ItemScores],
        *,
        search_weights: Mapping[str, float],
        rank_weights: Mapping[str, float],
        new_items: NewItemEvidence | None = None,
    ) -> None:
        self.new_items = new_items if new_items is not None and len(new_items.item_I) else None
        self.search_weights, self.rank_weights = dict(search_weights), dict(rank_weights)
        used = _weighed(search_weights) | _weighed(rank_weights) | self._for_new_items()
        if unknown := used - set(sources):
            raise ValueError(f"weights must be of the sources {sorted(sources)}, got {sorted(unknown)}")
        self.sources = {name: source for name, source in sources.items() if name in used}
        self._factor = _factor(self.search_weights, self.rank_weights)

    def of(self, histories: Sequence[History]) -> tuple[FloatArray, FloatArray]:
        """Return the sums that search and that rank, both (histories, items)."""
        scores = {name: source(histories) for name, source in self.sources.items()}
        rank_BN = self._sum(scores, self.rank_weights)
        if self._factor is None:
            return self._sum(scores, self.search_weights), rank_BN
        return rank_BN if self._factor == 1 else np.float32(self._factor) * rank_BN, rank_BN

    def ranking(self, histories: Sequence[History]) -> FloatArray:
        """Return the sum that ranks alone, (histories, items); sources that have no weight in it are not computed."""
        used = _weighed(self.rank_weights) | self._for_new_items()
        scores = {name: source(histories) for name, source in self.sources.items() if name in used}
        return self._sum(scores, self.rank_weights)

    def kept_places(self, histories: Sequence[History]) -> KeptPlaces | None:
        """Return the places that are kept for new items, one row a history; None where they compete by score."""
        new = self.new_items
        if new is None or not new.share:
            return None
        total = np.float32(sum(self.rank_weights.values()))
        added_BI = None if new.likeness is None else total * new.likeness(histories)
        return KeptPlaces(item_V=new.item_I, share=new.share, added_BV=added_BI)

    def _for_new_items(self) -> set[str]:
        return set() if self.new_items is None else {self.new_items.source}

    def _sum(self, scores: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
        """Return the weighted sum; new items have their one source's, as if it had all weight."""
        total_BN, new = weighted_sum(scores, weights), self.new_items
        if new is not None:
            total_BN[:, new.item_I] = sum(weights.values()) * (scores[new.source][:, new.item_I] + new.bonus)
        return total_BN


def _weighed(weights: Mapping[str, float]) -> set[str]:
    return {name for name, weight in weights.items() if weight}


def _factor(weights: Mapping[str, float], others: Mapping[str, float]) -> float | None:
    """Return what makes other weights these, None where no one number does."""
    total, of_others = sum(weights.values()), sum(others.values())
    if not of_others:
        return None
    factor = total / of_others
    names = weights.keys() | others.keys()
    same = all(math.isclose(weights.get(name, 0.0), factor * others.get(name, 0.0), rel_tol=1e-9) for name in names)
    return factor if same else None


def weighted_sum(scores: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
    """Return the sum of arrays of one shape, each times its weight."""
    parts = [np.float32(weights[name]) * values for name, values in scores.items() if weights.get(name)]
    if not parts:
        raise ValueError(f"some source of {sorted(scores)} must have a weight, got {dict(weights)}")
    return np.asarray(sum(parts[1:], parts[0]), np.float32)


def mixed_scores(sources: Mapping[str, ItemScores], weights: Mapping[str, float]) -> ItemScores:
    """Return the weighted sum of sources as a function of histories."""
    evidence = Evidence(sources, search_weights=weights, rank_weights=weights)
    return lambda histories: evidence.of(histories)[1]


def head_of(scorer: Scorer) -> ItemScores:
    """Return the item head's log-probabilities, its members and prior included, as a function of histories."""
    return lambda histories: scorer.score_items(scorer.encode(histories))


class SharedSources:
    """The sources of several recommenders that score in turn; those of one name are one, and compute a batch once.

    Only the latest batch is kept: its scores of a large catalogue are the largest arrays that there are.
    """

    def __init__(self) -> None:
        self._shared: dict[str, BatchCache[FloatArray]] = {}

    def of(self, evidence: Evidence) -> Evidence:
        """Return evidence that reads the shared sources."""
        other = copy.copy(evidence)
        other.sources = {
            name: self._shared.setdefault(name, BatchCache(source, batches=1))
            for name, source in evidence.sources.items()
        }
        return other

    def clock(self) -> float:
        """Return seconds that run on as if nothing were shared: what was saved counts as if it had passed."""
        return time.perf_counter() + sum(source.saved_seconds for source in self._shared.values())
