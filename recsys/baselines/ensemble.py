"""The ensemble without tokens: two SASRecs of different seeds and item co-occurrence, shares chosen on validation.

A strong baseline that needs no token model: an item's score is the weighted sum of the log-probabilities that its three
parts give it.

Axes: B request, N item, X part.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from scipy.special import log_softmax

from recsys.baselines.cooccurrence import Cooccurrence
from recsys.baselines.sasrec import SASRec
from recsys.baselines.slates import slates_from_scores
from recsys.contracts import History, Request, Slate
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config, read_config
from recsys.core.ranking import ndcg_at
from recsys.data.splits import Questions
from recsys.sequence.validation import DEPTH, pessimistic_ranks, seen_items

_BATCH = 256


class EnsembleConfig(Config):
    """Settings of the ensemble."""

    steps: int = Field(default=10, ge=1)
    """Shares are multiples of one over this number."""
    floor: float = Field(default=1e-5, gt=0, lt=1)
    """The probability that co-occurrence spreads evenly over all items, so that its logarithm is finite."""
    max_users: int = Field(default=4000, ge=1)
    """On how many validation users shares are chosen."""
    shares: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    """The shares of both SASRecs and of co-occurrence, where they are not chosen."""


class Ensemble:
    """Ranks items by two SASRecs and item co-occurrence."""

    name = "ensemble"

    def __init__(self, first: SASRec, second: SASRec, cooccurrence: Cooccurrence, config: EnsembleConfig) -> None:
        self.first, self.second, self.cooccurrence, self.config = first, second, cooccurrence, config

    @classmethod
    def of(
        cls,
        parts: tuple[SASRec, SASRec, Cooccurrence],
        config: EnsembleConfig | None = None,
        *,
        validation: Questions | None = None,
        seed: int = 0,
    ) -> "Ensemble":
        """Return fitted parts together; with validation questions the shares with the best NDCG@10 are taken."""
        made = cls(*parts, config or EnsembleConfig())
        if validation is not None:
            shares = made._best_shares(validation.sample(made.config.max_users, seed=seed).by_length())
            made.config = made.config.model_copy(update={"shares": shares})
        return made

    def parts(self, histories: Sequence[History]) -> FloatArray:
        """Return the log-probabilities that each part gives every item, (parts, histories, items)."""
        votes_BN = self.cooccurrence.scores(histories)
        votes_BN /= np.maximum(votes_BN.sum(axis=1, keepdims=True), 1e-12)
        floor = self.config.floor
        near_BN = np.log((1 - floor) * votes_BN + floor / votes_BN.shape[1])
        ids = [log_softmax(part.scores(histories), axis=1) for part in (self.first, self.second)]
        return np.stack([*ids, near_BN]).astype(np.float32)

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return the best items by the weighted sum of the parts."""
        slates: list[Slate] = []
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            parts_XBN = self.parts([request.history for request in batch])
            slates += slates_from_scores(_mixed(parts_XBN, self.config.shares), batch, name=self.name)
        return slates

    def _best_shares(self, queries: Questions) -> tuple[float, float, float]:
        """Return the shares, in steps that sum to one, with the best NDCG@10 on some users, seen items removed."""
        steps = self.config.steps
        tried = [share for share in itertools.product(range(steps + 1), repeat=3) if sum(share) == steps]
        total = np.zeros(len(tried))
        for start in range(0, len(queries.targets_U), _BATCH):
            batch = queries.take(np.arange(start, min(start + _BATCH, len(queries.targets_U))))
            parts_XBN, seen = self.parts(batch.histories), seen_items(batch.histories)
            for place, share in enumerate(tried):
                mixed_BN = _mixed(parts_XBN, [one / steps for one in share])
                total[place] += ndcg_at(pessimistic_ranks(mixed_BN, batch.targets_U, seen), DEPTH).sum()
        best = tried[int(total.argmax())]
        return best[0] / steps, best[1] / steps, best[2] / steps

    def save(self, folder: Path) -> None:
        """Write all parts and the settings into a folder."""
        for name, part in (("first", self.first), ("second", self.second), ("cooccurrence", self.cooccurrence)):
            part.save(folder / name)
        write_json(folder / "config.json", self.config.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "Ensemble":
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: there is nothing.
        """
        path = require(folder / "config.json", remedy="fit and save the ensemble first")
        return cls(
            SASRec.load(folder / "first"),
            SASRec.load(folder / "second"),
            Cooccurrence.load(folder / "cooccurrence"),
            read_config(EnsembleConfig, path),
        )


def _mixed(parts_XBN: FloatArray, shares: Sequence[float]) -> FloatArray:
    return np.einsum("xbn,x->bn", parts_XBN, np.asarray(shares, np.float32))
