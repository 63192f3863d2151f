"""SASRec trained with a softmax over items: a causal Transformer over item ids alone.

With the plain binary loss of its paper SASRec is a weak rival; with a softmax, over all items or over sampled ones, it
beats most generative models (eSASRec, arXiv 2508.06450). The network is
:mod:`recsys.sequence.id_transformer`, its training :mod:`recsys.sequence.id_training`.

Axes: B sequence, N item.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys.baselines.slates import slates_from_scores
from recsys.contracts import History, Request, Slate
from recsys.core.arrays import FloatArray
from recsys.core.device import Device, pick_device
from recsys.data.events import EventLog
from recsys.data.splits import Questions
from recsys.sequence.id_training import fit_id_transformer
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig, score_histories

HISTORIES_PER_CALL = 256


class SASRecConfig(IdTransformerConfig):
    """Settings of the SASRec baseline."""

    device: Device = "auto"
    """Where it trains and runs."""


class SASRec:
    """Ranks items by the softmax of a causal Transformer; an empty history gets the training counts."""

    name = "sasrec"

    def __init__(self, network: IdTransformer, counts_N: FloatArray, config: SASRecConfig) -> None:
        self.network = network.to(pick_device(config.device)).eval()
        self.counts_N = counts_N
        self.config = config

    @classmethod
    def fit(
        cls,
        log: EventLog,
        config: SASRecConfig | None = None,
        *,
        seed: int = 0,
        validation: Questions | None = None,
    ) -> "SASRec":
        """Train on a training log; with validation questions the epoch with the best NDCG@10 is kept."""
        config = config or SASRecConfig()
        device = pick_device(config.device)
        network = fit_id_transformer(log, config, seed=seed, name=cls.name, device=device, validation=validation)
        return cls.of(network, log, config)

    @classmethod
    def of(cls, network: IdTransformer, log: EventLog, config: SASRecConfig) -> "SASRec":
        """Return a network that was trained on a log as a recommender."""
        return cls(network, log.counts_N.astype(np.float32), config)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return every item's logit for each history.

        Shape:
            result: (histories, items); an empty history's row holds the training counts.
        """
        scores_BN = score_histories(self.network, self.config, histories)
        scores_BN[[not len(history.items) for history in histories]] = self.counts_N
        return scores_BN

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return the likeliest next items for each history."""
        slates: list[Slate] = []
        for start in range(0, len(requests), HISTORIES_PER_CALL):
            batch = requests[start : start + HISTORIES_PER_CALL]
            scores_BN = self.scores([request.history for request in batch])
            slates += slates_from_scores(scores_BN, batch, name=self.name)
        return slates

    def save(self, folder: Path) -> None:
        """Write the weights, the counts and the settings into a folder."""
        self.network.save(folder, self.config)
        np.save(folder / "counts.npy", self.counts_N)

    @classmethod
    def load(cls, folder: Path) -> "SASRec":
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: there is nothing.
        """
        network, config = IdTransformer.load(folder, SASRecConfig)
        counts_N: FloatArray = np.load(folder / "counts.npy")
        return cls(network, counts_N, config)
