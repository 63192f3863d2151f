"""The recommender whose slates come from searched token paths: token models propose, all evidence ranks.

Axes: B batch, N item.
"""

import copy
from collections.abc import Sequence

from recsys.codes.validity import ValidityIndex
from recsys.contracts import Request, Slate, eligible_items, require_unsteered
from recsys.decoding.belief_decoder import decode_beliefs
from recsys.decoding.belief_search import Categories
from recsys.decoding.config import BeliefSearchConfig
from recsys.recommender.evidence import Evidence

TOKENS_EXACT = "recsys: tokens alone (exact)"
TOKENS_PATHS = "recsys: tokens alone (64 paths)"
PATHS_PROPOSE = "recsys: paths propose, all evidence ranks"
EVIDENCE_EXACT = "recsys: all evidence ranks the catalogue"


class TokenRecommender:
    """Ranks what the paths of a token mixture reach, or the whole catalogue, by weighted evidence.

    The paths beside an item are those that the search took, by the model that ranked or that proposed it; an item that
    no path reached has none.
    """

    def __init__(
        self,
        name: str,
        evidence: Evidence,
        index: ValidityIndex,
        categories: Categories,
        config: BeliefSearchConfig,
        *,
        trace: bool = True,
    ) -> None:
        self.name, self.evidence, self.index = name, evidence, index
        self.categories, self.config, self.trace = categories, config, trace

    def untraced(self) -> "TokenRecommender":
        """Return the same recommender without paths beside its items."""
        other = copy.copy(self)
        other.trace = False
        return other

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return one slate per request (see :class:`recsys.contracts.Recommender`)."""
        if not requests:
            return []
        require_unsteered(requests, self.name)
        belief_BN, rank_BN = self.evidence.of([request.history for request in requests])
        everything = all(request.keep_seen and request.eligible_N is None for request in requests)
        slates = decode_beliefs(
            belief_BN,
            rank_BN,
            self.index,
            n=max(request.n for request in requests),
            config=self.config,
            eligible_BN=None if everything else eligible_items(requests, self.index.num_items),
            categories=self.categories if self.config.corp else None,
            trace=self.trace,
        )
        return [slate.first(request.n) for slate, request in zip(slates, requests, strict=True)]
