"""The recommender of this project: token paths in a free order of codebooks, and the item head."""

import copy
from collections.abc import Sequence
from typing import Generic, TypeVar

from recsys.codes.catalogue import Catalogue
from recsys.codes.validity import ValidityIndex
from recsys.contracts import Request, Scorer, Slate, eligible_or_all, require_unsteered
from recsys.decoding.config import DecoderConfig
from recsys.decoding.decoder import decode

_Scorer = TypeVar("_Scorer", bound=Scorer)


class ReasoningRecommender(Generic[_Scorer]):
    """Recommends by decoding token paths over the exact validity index of a catalogue."""

    name = "recsys"

    def __init__(self, scorer: _Scorer, catalogue: Catalogue, config: DecoderConfig, *, trace: bool = True) -> None:
        self.catalogue = catalogue
        self.config = config
        self.trace = trace
        self.scorer = scorer
        self.index = ValidityIndex(catalogue.codes_NM, catalogue.layout.codebook_size)

    def variant(self, name: str, config: DecoderConfig) -> "ReasoningRecommender[_Scorer]":
        """Return the same model and catalogue decoded in another way, under another name."""
        other = copy.copy(self)
        other.name, other.config = name, config
        return other

    def untraced(self) -> "ReasoningRecommender[_Scorer]":
        """Return the same recommender without paths beside its items."""
        other = copy.copy(self)
        other.trace = False
        return other

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return one slate per request (see :class:`recsys.contracts.Recommender`)."""
        if not requests:
            return []
        require_unsteered(requests, self.name)
        slates = decode(
            self.scorer,
            self.index,
            [request.history for request in requests],
            n=max(request.n for request in requests),
            config=self.config,
            item_scorer=self.scorer if self.config.reads_items else None,
            eligible_BN=eligible_or_all(requests, len(self.catalogue.codes_NM)),
            trace=self.trace,
        )
        return [slate.first(request.n) for slate, request in zip(slates, requests, strict=True)]
