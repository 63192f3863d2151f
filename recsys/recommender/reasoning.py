"""The recommender of this project: several reasoning paths in a free order, then all evidence on one item.

Axes: B batch, N item.
"""

import copy
from collections.abc import Sequence

import numpy as np

from recsys.codes.catalogue import Catalogue
from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, Slate
from recsys.core.arrays import BoolArray
from recsys.decoding.config import DecoderConfig
from recsys.decoding.decoder import decode
from recsys.model.generator import Generator
from recsys.recommender.scorer import GeneratorScorer


class ReasoningRecommender:
    """Recommends by decoding token paths over the exact validity index of a catalogue."""

    name = "recsys"

    def __init__(
        self, generator: Generator, catalogue: Catalogue, config: DecoderConfig, *, trace: bool = True
    ) -> None:
        self.catalogue = catalogue
        self.config = config
        self.trace = trace
        self.scorer = GeneratorScorer(generator)
        self.index = ValidityIndex(catalogue.codes_NM, catalogue.layout.codebook_size)

    def variant(self, name: str, config: DecoderConfig) -> "ReasoningRecommender":
        """Return the same model and catalogue decoded in another way, under another name."""
        other = copy.copy(self)
        other.name, other.config = name, config
        return other

    def untraced(self) -> "ReasoningRecommender":
        """Return the same recommender without paths beside its items."""
        other = copy.copy(self)
        other.trace = False
        return other

    def recommend(
        self,
        histories: Sequence[History],
        *,
        n: int,
        keep_seen: bool = False,
        eligible_N: BoolArray | None = None,
    ) -> list[Slate]:
        """Return one slate per history (see :class:`recsys.contracts.Recommender`)."""
        eligible_BN = self._eligible(histories, keep_seen=keep_seen, eligible_N=eligible_N)
        return decode(
            self.scorer,
            self.index,
            histories,
            n=n,
            config=self.config,
            eligible_BN=eligible_BN,
            trace=self.trace,
        )

    def _eligible(
        self, histories: Sequence[History], *, keep_seen: bool, eligible_N: BoolArray | None
    ) -> BoolArray | None:
        if keep_seen and eligible_N is None:
            return None
        num_items = len(self.catalogue.codes_NM)
        every_N = np.ones(num_items, np.bool_) if eligible_N is None else eligible_N
        eligible_BN = np.repeat(every_N[None], len(histories), axis=0)
        if not keep_seen:
            for row, history in enumerate(histories):
                eligible_BN[row, history.items] = False
        return eligible_BN
