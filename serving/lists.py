"""The lists without a person: similar items, popular, latest, facets; with the same filters and rules."""

import numpy as np

from recsys.core.arrays import IntArray
from recsys.data.ids import wire_id
from serving.asking import question
from serving.compose import compose
from serving.fallback import FallbackRanker
from serving.items import ItemTable
from serving.problems import ProblemError, shown
from serving.recommending import answer_of
from serving.release import Release
from serving.schemas.common import Filter
from serving.schemas.recommend import FacetOut, HistoryEvent, ListedItem, ListResponse, RankingRequest
from serving.service import Service


async def similar(
    service: Service, item_id: str, *, n: int, wanted: Filter | None, surface: str | None
) -> ListResponse:
    """Return what the model would show somebody who has this one item."""
    release = service.releases.current
    row = item_row(release, item_id)
    event = HistoryEvent(item_id=str(release.items.item_ids[row]))
    request = RankingRequest(history=[event], filter=wanted, surface=surface)
    asked = question(release, request, None, service.context(), n=n)
    answer = await answer_of(service, asked, explain=False)
    items = [_listed(release.items, place.row, place.score) for place in answer.composed.places]
    return ListResponse(items=items, degraded=None if answer.refusal is None else answer.refusal.value)


def popular(service: Service, *, n: int, wanted: Filter | None, surface: str | None) -> ListResponse:
    """Return the items with most events in the training log."""
    release = service.releases.current
    return _ordered(service, release, _by(release.items.popular_N, "popular"), n=n, wanted=wanted, surface=surface)


def latest(service: Service, *, n: int, wanted: Filter | None, surface: str | None) -> ListResponse:
    """Return the items that came last: by the time they were put, or of their first event."""
    release = service.releases.current
    items = release.items
    order_N = np.lexsort((np.arange(len(items)), -items.counts_N, -items.facts.added_N))
    return _ordered(service, release, _by(order_N, "latest"), n=n, wanted=wanted, surface=surface)


def facets(service: Service, *, wanted: Filter | None, query: str, limit: int) -> list[FacetOut]:
    """Return facets whose words hold a query, those of most items first."""
    release = service.releases.current
    asked = question(release, RankingRequest(history=[], filter=wanted), None, service.context(), n=1)
    words = query.casefold().split()
    found = [
        facet
        for facet in release.facets.count(asked.plan.eligible_N)
        if all(word in facet.words.casefold() for word in words)
    ]
    return [FacetOut(**vars(facet)) for facet in found[:limit]]


def item_row(release: Release, item_id: str) -> int:
    """Return the row of an item, or raise the problem that it is not there."""
    row = release.items.index_of(item_id)
    if row is None:
        raise ProblemError(
            404, f"the item must be one of the catalogue, got {shown(item_id)}; GET /v1/items?query= finds items"
        )
    return row


def _by(order_N: IntArray, name: str) -> FallbackRanker:
    return FallbackRanker(order_N=order_N.astype(np.int64), bounds=((name, len(order_N)),))


def _ordered(
    service: Service, release: Release, ranker: FallbackRanker, *, n: int, wanted: Filter | None, surface: str | None
) -> ListResponse:
    asked = question(release, RankingRequest(history=[], filter=wanted, surface=surface), None, service.context(), n=n)
    composed = compose(asked.plan, ranker, service.rng)
    return ListResponse(items=[_listed(release.items, place.row, None) for place in composed.places])


def _listed(items: ItemTable, row: int, score: float | None) -> ListedItem:
    return ListedItem(
        item_id=wire_id(items.item_ids[row]),
        title=items.titles[row],
        categories=list(items.categories[row]),
        score=score,
    )
