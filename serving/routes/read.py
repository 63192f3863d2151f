"""The paths that read the catalogue: search, one item, similar, popular, latest, facets."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from serving.item_writes import found_item, item_out
from serving.lists import facets, item_row, latest, popular, similar
from serving.routes.deps import FilterDep, Length, ServiceDep, Surface
from serving.schemas.recommend import FacetsResponse, ListResponse
from serving.schemas.writes import ItemOut, ItemsResponse

router = APIRouter(tags=["catalogue"])
ItemId = Annotated[str, Path(min_length=1, max_length=1024)]


@router.get("/v1/items")
def search_items(
    service: ServiceDep,
    query: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ItemsResponse:
    """Find items by words of their title."""
    release = service.releases.current
    return ItemsResponse(items=[found_item(release, row) for row in release.items.search(query, limit)])


@router.get("/v1/items/{item_id}")
def get_item(item_id: ItemId, service: ServiceDep) -> ItemOut:
    """Return one item: its columns, its facets, whether it is for sale and whether the model was trained on it."""
    release = service.releases.current
    return item_out(release, item_row(release, item_id))


@router.get("/v1/items/{item_id}/similar")
async def get_similar(
    item_id: ItemId, service: ServiceDep, wanted: FilterDep, n: Length = 10, surface: Surface = None
) -> ListResponse:
    """Return what is like an item: what the model would show to somebody who has it alone."""
    return await similar(service, item_id, n=n, wanted=wanted, surface=surface)


@router.get("/v1/popular")
def get_popular(service: ServiceDep, wanted: FilterDep, n: Length = 10, surface: Surface = None) -> ListResponse:
    """Return the items with most events in the training log."""
    return popular(service, n=n, wanted=wanted, surface=surface)


@router.get("/v1/latest")
def get_latest(service: ServiceDep, wanted: FilterDep, n: Length = 10, surface: Surface = None) -> ListResponse:
    """Return the items that came last."""
    return latest(service, n=n, wanted=wanted, surface=surface)


@router.get("/v1/facets")
def get_facets(
    service: ServiceDep,
    wanted: FilterDep,
    query: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> FacetsResponse:
    """Return what a request can be steered by: facets with the number of items that have them."""
    return FacetsResponse(facets=facets(service, wanted=wanted, query=query, limit=limit))
