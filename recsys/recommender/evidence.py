"""Sources of evidence about items, and their weighted sums: one searches paths, one ranks.

Axes: B request, N item.
"""

import copy
import time
from collections.abc import Mapping, Sequence

import numpy as np

from recsys.contracts import History, ItemScores, Scorer
from recsys.core.arrays import FloatArray


class Evidence:
    """Log-probabilities of several sources, summed by two sets of weights: one searches paths, one ranks.

    Args:
        sources: what each source says about every item; one that has no weight may be missing.
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


class SharedScores:
    """A source that computes once what several recommenders ask in turn about the same histories.

    What it said of the histories that came last is kept: all of them, or some, may be asked again.
    """

    def __init__(self, source: ItemScores) -> None:
        self.source = source
        self.spared_seconds = 0.0
        """What the answers that were kept would have taken, had they been computed again."""
        self._held: list[History] = []  # what is held has a number that no other history gets
        self._row: dict[int, int] = {}
        self._scores_BN = np.empty((0, 0), np.float32)
        self._seconds_each = 0.0

    def __call__(self, histories: Sequence[History]) -> FloatArray:
        """Return the source's scores, (histories, items), not to be written to."""
        row_B = [self._row.get(id(history), -1) for history in histories]
        if -1 in row_B:
            return self._computed(histories)
        self.spared_seconds += self._seconds_each * len(row_B)
        return self._scores_BN if row_B == list(range(len(self._held))) else self._scores_BN[row_B]

    def _computed(self, histories: Sequence[History]) -> FloatArray:
        began = time.perf_counter()
        self._scores_BN = self.source(histories)
        self._seconds_each = (time.perf_counter() - began) / len(histories)
        self._scores_BN.setflags(write=False)
        self._held = list(histories)
        self._row = {id(history): row for row, history in enumerate(histories)}
        return self._scores_BN


class SharedSources:
    """The sources of several recommenders that are asked in turn; those of one name are one, and compute once."""

    def __init__(self) -> None:
        self._shared: dict[str, SharedScores] = {}

    def of(self, evidence: Evidence) -> Evidence:
        """Return evidence that asks the shared sources."""
        other = copy.copy(evidence)
        other.sources = {
            name: self._shared.setdefault(name, SharedScores(one)) for name, one in evidence.sources.items()
        }
        return other

    def clock(self) -> float:
        """Return seconds that run on as if nothing were shared: what was spared counts as if it had passed."""
        return time.perf_counter() + sum(one.spared_seconds for one in self._shared.values())
