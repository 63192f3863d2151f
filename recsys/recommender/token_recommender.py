"""The recommender whose slates come from searched token paths: paths propose, all evidence ranks.

Axes: B request, N item.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, Request, Slate, eligible_items, eligible_or_all, require_unsteered
from recsys.core.arrays import FloatArray
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.item_probabilities import Categories, Searcher, item_probabilities
from recsys.decoding.marginal_decoder import decode_by_marginals
from recsys.decoding.marginal_search import MarginalSearch
from recsys.recommender.evidence import Evidence, SharedSources


class TokenRecommender:
    """Ranks what searched paths reach, or the whole catalogue, by weighted evidence.

    The config sets which of the two, unless a request does.

    The paths beside an item are those that the search took, by the model that ranked or that proposed it; an item that
    no path reached has none.

    Where the evidence keeps places for new items (see :mod:`recsys.decoding.kept_places`), every request's slate has
    them, of its own length and among what it admits: an item that it bars has no place, and where it admits too few of
    one kind, the others fill.
    """

    def __init__(  # noqa: PLR0913 (evidence, index, search settings)
        self,
        name: str,
        evidence: Evidence,
        index: ValidityIndex,
        categories: Categories,
        config: MarginalSearchConfig,
        *,
        trace: bool = True,
        searcher: Searcher = MarginalSearch,
    ) -> None:
        self.name, self.evidence, self.index = name, evidence, index
        self.categories, self.config, self.trace, self.searcher = categories, config, trace, searcher

    def untraced(self) -> "TokenRecommender":
        """Return the same recommender without paths beside its items."""
        other = copy.copy(self)
        other.trace = False
        return other

    def variant(self, name: str, **search: Any) -> "TokenRecommender":
        """Return the same evidence searched and ranked with other settings, under another name."""
        other = copy.copy(self)
        other.name, other.config = name, self.config.model_copy(update=search)
        return other

    def sharing(self, sources: SharedSources) -> "TokenRecommender":
        """Return the same recommender with sources that others share."""
        other = copy.copy(self)
        other.evidence = sources.of(self.evidence)
        return other

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return one slate per request (see :class:`recsys.contracts.Recommender`)."""
        if not requests:
            return []
        require_unsteered(requests, self.name)
        ways = self._by_config(requests)
        searches = self.trace or any(config.ranked == "reached" for config, _ in ways)
        log_prob_BN, rank_BN = self._evidence([request.history for request in requests], searches=searches)
        eligible_BN = eligible_or_all(requests, self.index.num_items)
        slates: dict[int, Slate] = {}
        for config, rows_B in ways:
            found = decode_by_marginals(
                log_prob_BN[rows_B],
                rank_BN[rows_B],
                self.index,
                n=max(requests[row].n for row in rows_B),
                config=config,
                eligible_BN=None if eligible_BN is None else eligible_BN[rows_B],
                categories=self.categories if config.corp else None,
                trace=self.trace,
                searcher=self.searcher,
                kept=self.evidence.kept_places([requests[row].history for row in rows_B]),
            )
            slates |= zip(rows_B, found, strict=True)
        return [slates[row].first(request.n) for row, request in enumerate(requests)]

    def _evidence(self, histories: Sequence[History], *, searches: bool) -> tuple[FloatArray, FloatArray]:
        """Return what searches and what ranks, (requests, items); one history of several requests is encoded once.

        Where nothing is searched, what ranks stands for both.
        """
        distinct = list({id(history): history for history in histories}.values())
        if searches:
            log_prob_BN, rank_BN = self.evidence.of(distinct)
        else:
            log_prob_BN = rank_BN = self.evidence.ranking(distinct)
        if len(distinct) == len(histories):
            return log_prob_BN, rank_BN
        place = {id(history): row for row, history in enumerate(distinct)}
        row_B = [place[id(history)] for history in histories]
        return log_prob_BN[row_B], rank_BN[row_B]

    def _by_config(self, requests: Sequence[Request]) -> list[tuple[MarginalSearchConfig, list[int]]]:
        """Return how requests are answered, each with the rows of those that are."""
        whole = [
            self.config.ranked == "catalogue" if one.whole_catalogue is None else one.whole_catalogue
            for one in requests
        ]
        found = []
        for wanted, ranked in ((False, "reached"), (True, "catalogue")):
            if rows := [row for row, value in enumerate(whole) if value is wanted]:
                is_own = self.config.ranked == ranked
                found.append((self.config if is_own else self.config.model_copy(update={"ranked": ranked}), rows))
        return found


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
        search = MarginalSearch(recommender.index, prob_BN, config, categories=recommender.categories)
        row_P = np.flatnonzero(eligible_BN.any(axis=1))
        search.run(row_P, eligible_BN[row_P])
        found += search.jumps
    return np.concatenate(found)
