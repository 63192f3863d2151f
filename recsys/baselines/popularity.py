"""Popularity: every history gets the most frequent items of the training log.

Axes: B request, N item.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys.baselines.slates import slates_from_scores
from recsys.contracts import Request, Slate
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require
from recsys.data.events import EventLog


class Popularity:
    """Ranks items by how often they occur in the training log."""

    name = "popularity"

    def __init__(self, counts_N: FloatArray) -> None:
        self.counts_N = counts_N

    @classmethod
    def fit(cls, log: EventLog) -> "Popularity":
        """Count the items of a training log."""
        return cls(np.bincount(log.items_E, minlength=log.num_items).astype(np.float32))

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return the most frequent items for each request."""
        scores_BN = np.broadcast_to(self.counts_N, (len(requests), len(self.counts_N)))
        return slates_from_scores(scores_BN, requests, name=self.name)

    def save(self, folder: Path) -> None:
        """Write the counts into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "counts.npy", self.counts_N)

    @classmethod
    def load(cls, folder: Path) -> "Popularity":
        """Read what :meth:`save` wrote."""
        return cls(np.load(require(folder / "counts.npy", remedy="fit and save the popularity baseline first")))
