"""The paths that write: events, items, forgetting a person."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from recsys.core.errors import IdError
from recsys.data.ids import id_text
from serving.forgetting import forget
from serving.ingest import add_events
from serving.item_writes import delete_item, put_items
from serving.problems import ProblemError
from serving.routes.deps import CLIENT, ServiceDep
from serving.schemas.writes import EventIn, EventsResponse, ForgetResponse, ItemIn, ItemsPutResponse

router = APIRouter(tags=["writes"])


def _rows(model: type[EventIn] | type[ItemIn]) -> dict[str, Any]:
    """Return the OpenAPI of a body whose rows are checked one by one, so that a bad one takes no other down."""
    schema = {"type": "array", "items": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/v1/events", status_code=202, openapi_extra=_rows(EventIn))
async def post_events(request: Request, service: ServiceDep) -> EventsResponse:
    """Store events, each once, durably before the answer."""
    return await add_events(service, await request.body())


@router.put("/v1/items", dependencies=CLIENT, openapi_extra=_rows(ItemIn))
async def put_some_items(request: Request, service: ServiceDep) -> ItemsPutResponse:
    """Add or change items, durably before the answer; they can be recommended at once."""
    return await put_items(service, await request.body())


@router.delete("/v1/items/{item_id}", status_code=204, dependencies=CLIENT)
async def delete_one_item(item_id: Annotated[str, Path(min_length=1, max_length=1024)], service: ServiceDep) -> None:
    """Take an item off sale until it is put again."""
    await delete_item(service, item_id)


@router.delete("/v1/users/{user_id}", dependencies=CLIENT)
async def delete_user(
    user_id: Annotated[str, Path(min_length=1, max_length=1024)], service: ServiceDep
) -> ForgetResponse:
    """Forget a person: events, exposures, and what servers keep in memory."""
    try:
        text = id_text(user_id)
    except IdError as error:
        raise ProblemError(422, str(error)) from error
    return await forget(service, text or user_id)
