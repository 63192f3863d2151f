"""Item co-occurrence: items that stand near the last items of a history in other users' histories.

Axes: B request, N item.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from recsys.baselines.slates import slates_from_scores
from recsys.contracts import History, Request, Slate
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config, read_config
from recsys.data.cooccurrence import cosine_cooccurrence, recent_votes
from recsys.data.events import EventLog

TINY = 0.01
"""The most popular item's prior, as a share of the smallest score that one co-occurrence can give."""


class CooccurrenceConfig(Config):
    """Settings of the co-occurrence baseline."""

    window: int = 5
    """Two events of a user co-occur when they are at most this many events apart."""
    last: int = 5
    """How many of a history's last events vote."""
    decay: float = 0.7
    """Each older event's vote is the next newer one's times this."""


class Cooccurrence:
    """Ranks items by decayed sums of cosine-normalised co-occurrence counts, then by popularity."""

    name = "cooccurrence"

    def __init__(self, similarity_NN: sparse.csr_array, counts_N: FloatArray, config: CooccurrenceConfig) -> None:
        self.similarity_NN = similarity_NN
        self.counts_N = counts_N
        self.config = config
        smallest = float(similarity_NN.data.min()) if similarity_NN.nnz else 1.0
        below = TINY * smallest * config.decay ** (config.last - 1)
        self.prior_N: FloatArray = (below * counts_N / max(float(counts_N.max(initial=0.0)), 1.0)).astype(np.float32)

    @classmethod
    def fit(cls, log: EventLog, config: CooccurrenceConfig | None = None) -> "Cooccurrence":
        """Count pairs of items inside the window of a training log and normalise them by the items' counts."""
        config = config or CooccurrenceConfig()
        counts_N = log.counts_N.astype(np.float32)
        return cls(cosine_cooccurrence(log, config.window), counts_N, config)

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return the items that co-occur most with the end of each history."""
        if not requests:
            return []
        scores_BN = self.scores([request.history for request in requests])
        return slates_from_scores(scores_BN, requests, name=self.name)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return every item's score after each history, (histories, items)."""
        votes_BN = recent_votes(
            [history.items for history in histories],
            last=self.config.last,
            decay=self.config.decay,
            num_items=len(self.counts_N),
        )
        return np.asarray((votes_BN @ self.similarity_NN).toarray() + self.prior_N)

    def save(self, folder: Path) -> None:
        """Write the similarities, the counts and the settings into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        sparse.save_npz(folder / "similarity.npz", self.similarity_NN)
        np.save(folder / "counts.npy", self.counts_N)
        write_json(folder / "config.json", self.config.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "Cooccurrence":
        """Read what :meth:`save` wrote."""
        path = require(folder / "config.json", remedy="fit and save the co-occurrence baseline first")
        return cls(
            sparse.csr_array(sparse.load_npz(folder / "similarity.npz")),
            np.load(folder / "counts.npy"),
            read_config(CooccurrenceConfig, path),
        )
