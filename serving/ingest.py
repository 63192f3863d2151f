"""Events on their way in: row by row, the good ones kept durably, the bad ones reported in bounded text."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from recsys.data.preferences import NO_LIKES
from serving.problems import Fault, ProblemError, faults_of, shown
from serving.schemas.writes import EventIn, EventsResponse, Rejection
from serving.service import Service
from serving.store.events import StoredEvent

_IN_WORDS = 100
"""How many rejected rows have their reason in the answer."""
_SHOWN = frozenset({"impression", "impressions", "exposure", "exposed", "shown", "display", "view_impression"})
"""Event types that say what a user was shown, not what they did."""


async def add_events(service: Service, body: bytes) -> EventsResponse:
    """Store the good rows of a body and say of bad ones what is wrong; on return they are on disk."""
    return await service.threads.run(lambda: _add(service, body), service.config.write_seconds)


def rows_of(body: bytes, *, most: int) -> list[Any]:
    """Return the rows of a JSON body.

    Raises:
        ProblemError: it is no JSON list, or too long.
    """
    try:
        rows = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _malformed("valid JSON", shown(str(error)), "send a JSON document encoded as UTF-8") from error
    if not isinstance(rows, list):
        raise _malformed("a JSON list of rows", shown(type(rows).__name__), "put the rows into a list")
    if len(rows) > most:
        raise _malformed(f"at most {most} rows", f"{len(rows)}", "send them in smaller parts")
    return rows


def in_words(error: ValueError) -> str:
    """Return what is wrong with a row, shortly."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = faults_of(error.errors(include_url=False, include_context=False)[:5])
    return "; ".join(f"{fault.where}: {fault.wanted}, got {fault.came}" for fault in faults)


def _add(service: Service, body: bytes) -> EventsResponse:
    rows = rows_of(body, most=service.config.max_rows)
    good, rejected, bad = checked(rows)
    items = service.releases.current.items
    accepted = service.store.events.add(good)
    service.histories.changed({event.user_id for event in good})
    return EventsResponse(
        accepted=accepted,
        duplicates=len(good) - accepted,
        rejected=rejected,
        rejected_rows=bad,
        unknown_items=sum(items.index_of(event.item_id) is None for event in good),
    )


def checked(rows: Sequence[Any]) -> tuple[list[StoredEvent], list[Rejection], list[int]]:
    """Return the events of good rows, what is wrong with the first bad ones, and the numbers of all bad ones."""
    good: list[StoredEvent] = []
    rejected: list[Rejection] = []
    bad: list[int] = []
    for index, row in enumerate(rows):
        try:
            good.append(_event(row))
        except ValidationError as error:
            bad.append(index)
            if len(rejected) < _IN_WORDS:
                rejected.append(Rejection(index=index, reason=in_words(error)))
    return good, rejected, bad


def _event(row: Any) -> StoredEvent:
    event = EventIn.model_validate(row)
    return StoredEvent(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        event_type=event.event_type,
        timestamp=event.timestamp,
        request_id=event.request_id,
        weight=_weight_of(event.event_type) if event.weight is None else float(event.weight),
    )


def _weight_of(event_type: str) -> float:
    """Return what an event counts whose weight was not sent: 1, -1 for a dislike, 0 for an item that was only shown."""
    plain = event_type.strip().casefold().replace(" ", "_").replace("-", "_")
    if plain in _SHOWN:
        return 0.0
    return -1.0 if plain in NO_LIKES else 1.0


def _malformed(wanted: str, came: str, change: str) -> ProblemError:
    return ProblemError(
        422, f"the body must be {wanted}", faults=[Fault(where="body", wanted=wanted, came=came, change=change)]
    )
