"""Owns items that change at run time: checked, kept durably, and made part of the release that answers."""

import time
from typing import Any

from serving.growth import Growing, fits
from serving.ingest import in_words, rows_of
from serving.problems import ProblemError, shown
from serving.release import Release
from serving.schemas.writes import ItemIn, ItemOut, ItemsPutResponse, Rejection
from serving.service import Service
from serving.store.changes import StoredItem

_OWN = frozenset({"item_id", "available", "starts_at", "ends_at"})


async def put_items(service: Service, body: bytes) -> ItemsPutResponse:
    """Keep new and changed items; on return they are on disk and part of this server's release."""
    return await service.threads.run(lambda: _put(service, body), service.config.write_seconds)


async def delete_item(service: Service, item_id: str) -> None:
    """Take an item off sale, on every server, until it is put again."""
    await service.threads.run(lambda: _delete(service, item_id), service.config.write_seconds)


def refresh_items(service: Service) -> None:
    """Make the release that answers hold the items of the store."""
    service.releases.put_items(tuple(service.store.changes.items()))


def item_out(release: Release, row: int) -> ItemOut:
    """Return one item as it is served."""
    items, facets = release.items, release.facets
    names = [name for name in items.columns.column_names if name not in ("item_id", "title", "categories")]
    attributes = {name: (items.values(name) or [])[row] for name in names if not name.startswith("vector_")}
    return ItemOut(
        item_id=items.item_ids[row],
        title=items.titles[row],
        categories=list(items.categories[row]),
        available=bool(items.showable(int(time.time()))[row]),
        in_training=row < release.trained,
        facets=[facets.name(book, code) for book, code in enumerate(facets.codes_NM[row].tolist())],
        attributes={name: value for name, value in attributes.items() if value is not None},
    )


def _put(service: Service, body: bytes) -> ItemsPutResponse:
    release = service.releases.current
    rows = rows_of(body, most=service.config.max_rows)
    good: dict[str, StoredItem] = {}
    rejected: list[Rejection] = []
    for index, row in enumerate(rows):
        try:
            item = _item(release, row)
            good[item.item_id] = item
        except ValueError as error:
            rejected.append(Rejection(index=index, reason=in_words(error)))
    fresh = [item_id for item_id in good if release.items.index_of(item_id) is None]
    version = service.store.changes.put_items(list(good.values())) if good else 0
    if good:
        refresh_items(service)
    return ItemsPutResponse(accepted=len(good), version=version, new=len(fresh), rejected=rejected[:100])


def _delete(service: Service, item_id: str) -> None:
    release = service.releases.current
    row = release.items.index_of(item_id)
    if row is None:
        raise ProblemError(404, f"the item must be one of the catalogue, got {shown(item_id)}; nothing was changed")
    put = next((item for item in service.store.changes.items() if item.item_id == item_id), None)
    body = {} if put is None else put.body
    service.store.changes.put_items([StoredItem(item_id=item_id, body=body, available=False)])
    refresh_items(service)


def _item(release: Release, row: Any) -> StoredItem:
    """Return a row as an item to keep.

    Raises:
        ValueError: a field is not what it must be; ValidationError is one of these.
    """
    item = ItemIn.model_validate(row)
    body = {name: value for name, value in item.model_dump(exclude_none=True).items() if name not in _OWN}
    _require_types(release, body)
    known = release.items.index_of(item.item_id) is not None
    if not known:
        _require_encodable(release, item.item_id)
    return StoredItem(
        item_id=item.item_id,
        body=body,
        available=item.available,
        starts_at=item.starts_at,
        ends_at=item.ends_at,
    )


def _require_types(release: Release, body: dict[str, Any]) -> None:
    columns = release.items.columns
    for name, value in body.items():
        if len(name) > 256 or isinstance(value, dict):
            raise ValueError(f"{shown(name)}: must be a column with one value or a list, got {shown(value)}")
        if name in columns.column_names and not fits(value, columns[name].type):
            raise ValueError(f"{name}: must be {columns[name].type} as in the catalogue, got {shown(value)}")


def _require_encodable(release: Release, item_id: str) -> None:
    if release.model is not None and not isinstance(release.model, Growing):
        raise ValueError("item_id: must be an item of the catalogue, because this bundle holds no tokenizer for others")
    known = release.items.item_ids
    if known and isinstance(known[0], int) and not item_id.lstrip("-").isdigit():
        raise ValueError(f"item_id: must be a whole number as in the catalogue, got {shown(item_id)}")
