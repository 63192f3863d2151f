"""Sources of evidence about items, and their weighted sums: one searches paths, one ranks.

Axes: B request, N item.
"""

import copy
import time
from collections.abc import Mapping, Sequence

import numpy as np

from recsys.contracts import History, ItemScores, Scorer
from recsys.core.arrays import FloatArray
from recsys.recommender.batch_cache import BatchCache


class Evidence:
    """Log-probabilities of several sources, summed by two sets of weights: one searches paths, one ranks.

    Args:
        sources: by name, each a function that scores every item; one that has no weight may be missing.
        belief: weights of the sum that decides the steps of paths; sources that are not named count 0.
        rank: weights of the sum that orders the slate.
    """

    def __init__(
        self, sources: Mapping[str, ItemScores], *, belief: Mapping[str, float], rank: Mapping[str, float]
    ) -> None:
        weighed = {name for name in (*belief, *rank) if belief.get(name) or rank.get(name)}
        if unknown := weighed - set(sources):
            raise ValueError(f"weights must be of the sources {sorted(sources)}, got {sorted(unknown)}")
        self.belief, self.rank = dict(belief), dict(rank)
        self.sources = {name: source for name, source in sources.items() if belief.get(name) or rank.get(name)}

    def of(self, histories: Sequence[History]) -> tuple[FloatArray, FloatArray]:
        """Return the sums that search and that rank, both (histories, items)."""
        said = {name: source(histories) for name, source in self.sources.items()}
        belief_BN = weighted_sum(said, self.belief)
        return belief_BN, belief_BN if self.rank == self.belief else weighted_sum(said, self.rank)

    def ranking(self, histories: Sequence[History]) -> FloatArray:
        """Return the sum that ranks alone, (histories, items); sources that have no weight in it are not asked."""
        return weighted_sum(
            {name: self.sources[name](histories) for name, weight in self.rank.items() if weight}, self.rank
        )


def weighted_sum(said: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
    """Return the sum of arrays of one shape, each times its weight."""
    parts = [np.float32(weights[name]) * values for name, values in said.items() if weights.get(name)]
    if not parts:
        raise ValueError(f"some source of {sorted(said)} must have a weight, got {dict(weights)}")
    return np.asarray(sum(parts[1:], parts[0]), np.float32)


def mixed_scores(sources: Mapping[str, ItemScores], weights: Mapping[str, float]) -> ItemScores:
    """Return the weighted sum of sources as a function of histories."""
    evidence = Evidence(sources, belief=weights, rank=weights)
    return lambda histories: evidence.of(histories)[1]


def head_of(scorer: Scorer) -> ItemScores:
    """Return the item head's log-probabilities, its members and prior included, as a function of histories."""
    return lambda histories: scorer.score_items(scorer.encode(histories))


class SharedSources:
    """The sources of several recommenders that are asked in turn; those of one name are one, and compute a batch once.

    Only the latest batch is kept: its scores of a large catalogue are the largest arrays that there are.
    """

    def __init__(self) -> None:
        self._shared: dict[str, BatchCache[FloatArray]] = {}

    def of(self, evidence: Evidence) -> Evidence:
        """Return evidence that asks the shared sources."""
        other = copy.copy(evidence)
        other.sources = {
            name: self._shared.setdefault(name, BatchCache(source, batches=1))
            for name, source in evidence.sources.items()
        }
        return other

    def clock(self) -> float:
        """Return seconds that run on as if nothing were shared: what was saved counts as if it had passed."""
        return time.perf_counter() + sum(source.saved_seconds for source in self._shared.values())
