"""Popularity: every history gets the most frequent items of the training log.

Axes: B request, N item.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys.baselines.slates import slates_from_scores
from recsys.contracts import Request, Slate
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config
from recsys.data.events import EventLog


class PopularityConfig(Config):
    """Settings of the popularity baseline."""

    recent_share: float = 1.0
    """Count only this newest share of the training events; 1 counts all."""


class Popularity:
    """Ranks items by how often they occur in the training log."""

    name = "popularity"

    def __init__(self, counts_N: FloatArray, config: PopularityConfig) -> None:
        self.counts_N = counts_N
        self.config = config

    @classmethod
    def fit(cls, log: EventLog, config: PopularityConfig | None = None) -> "Popularity":
        """Count the items of a training log."""
        config = config or PopularityConfig()
        items_E = log.items_E
        if config.recent_share < 1 and len(items_E):
            oldest = np.quantile(log.timestamps_E, 1 - config.recent_share)
            items_E = items_E[log.timestamps_E >= oldest]
        return cls(np.bincount(items_E, minlength=log.num_items).astype(np.float32), config)

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return the most frequent items for each request."""
        scores_BN = np.broadcast_to(self.counts_N, (len(requests), len(self.counts_N)))
        return slates_from_scores(scores_BN, requests, name=self.name)

    def save(self, folder: Path) -> None:
        """Write the counts and the settings into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "counts.npy", self.counts_N)
        write_json(folder / "config.json", self.config.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "Popularity":
        """Read what :meth:`save` wrote."""
        path = require(folder / "config.json", remedy="fit and save the popularity baseline first")
        return cls(np.load(folder / "counts.npy"), PopularityConfig.model_validate_json(path.read_text()))
