"""What routes share: the service, the administrator's key, filters in a query.

Dependencies are coroutines, because FastAPI hands plain functions to a thread, which costs more than they do.
"""

import json
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import ValidationError

from serving.problems import ProblemError, faults_of
from serving.schemas.common import Filter
from serving.service import Service
from serving.settings import ADMIN_KEYS, KEYS, Access


async def service_of(request: Request) -> Service:
    """Return the service of the application that got the request."""
    service: Service = request.app.state.service
    return service


async def administrator(request: Request) -> None:
    """Refuse who has no administrator's key."""
    if getattr(request.state, "access", Access.NOTHING) < Access.ADMIN:
        raise ProblemError(
            403, f"X-API-Key must hold an administrator's key, and does not; start the server with {ADMIN_KEYS} set"
        )


async def client(request: Request) -> None:
    """Refuse who has a page's key only."""
    if getattr(request.state, "access", Access.NOTHING) < Access.CLIENT:
        raise ProblemError(403, f"X-API-Key must hold a client's key, and holds a page's; use one of {KEYS}")


async def query_filter(
    category: Annotated[list[str] | None, Query(max_length=100)] = None,
    filter: Annotated[
        str | None, Query(max_length=10_000, description="a filter as in POST /v1/recommend, as JSON")
    ] = None,
) -> Filter | None:
    """Return the filter of a query: categories, any of which an item may be in, or a whole filter as JSON."""
    try:
        found = None if filter is None else Filter.model_validate(json.loads(filter))
        if category:
            found = (found or Filter()).model_copy(update={"category_in": category})
    except (ValidationError, ValueError, RecursionError) as error:
        faults = faults_of(error.errors(include_url=False)) if isinstance(error, ValidationError) else []
        raise ProblemError(422, "filter must be a filter as in POST /v1/recommend, as JSON", faults=faults) from error
    return found


ServiceDep = Annotated[Service, Depends(service_of)]
FilterDep = Annotated[Filter | None, Depends(query_filter)]
Length = Annotated[int, Query(ge=1, le=200)]
Surface = Annotated[str | None, Query(min_length=1, max_length=256)]
ADMIN = [Depends(administrator)]
CLIENT = [Depends(client)]
