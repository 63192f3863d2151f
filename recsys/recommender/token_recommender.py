"""The recommender whose slates come from searched token paths: token models propose, all evidence ranks.

Axes: B request, N item.
"""

import copy
from collections.abc import Sequence

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, Request, Slate, eligible_items, eligible_or_all, require_unsteered
from recsys.core.arrays import FloatArray
from recsys.decoding.belief_decoder import decode_beliefs
from recsys.decoding.belief_search import BeliefSearch, Categories, item_probabilities
from recsys.decoding.config import BeliefSearchConfig
from recsys.recommender.evidence import Evidence


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
        slates = decode_beliefs(
            belief_BN,
            rank_BN,
            self.index,
            n=max(request.n for request in requests),
            config=self.config,
            eligible_BN=eligible_or_all(requests, self.index.num_items),
            categories=self.categories if self.config.corp else None,
            trace=self.trace,
        )
        return [slate.first(request.n) for slate, request in zip(slates, requests, strict=True)]


def observed_jumps(recommender: TokenRecommender, histories: Sequence[History], *, batch_size: int = 32) -> FloatArray:
    """Return the jumps between categories at every step of unpruned paths, those of finished paths included.

    These are the transitions that CORP compares with its threshold, so a quantile of them is a threshold that prunes
    the rest.

    Shape:
        result: (transitions,).
    """
    config = recommender.config.model_copy(update={"corp": False})
    found = [np.empty(0, np.float32)]
    for start in range(0, len(histories), batch_size):
        batch = histories[start : start + batch_size]
        requests = [Request(history=history) for history in batch]
        eligible_BN = eligible_items(requests, recommender.index.num_items)
        prob_BN = item_probabilities(recommender.evidence.of(batch)[0], eligible_BN)
        search = BeliefSearch(recommender.index, prob_BN, config, categories=recommender.categories)
        row_P = np.flatnonzero(eligible_BN.any(axis=1))
        search.run(row_P, eligible_BN[row_P])
        found += search.jumps
    return np.concatenate(found)
