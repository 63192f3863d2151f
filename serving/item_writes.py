"""Items that change at run time: checked, kept durably, and made part of the release that answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.data.ids import wire_id
from serving.ingest import in_words, rows_of
from serving.pool import StoreLateError
from serving.problems import ProblemError, shown
from serving.release import Release
from serving.run_time_items import SupportsNewItems, fits
from serving.schemas.writes import EncodedItem, FoundItem, ItemIn, ItemOut, ItemsPutResponse, Rejection
from serving.service import Service
from serving.store.changes import StoredItem

_OWN = frozenset({"item_id", "available", "starts_at", "ends_at"})
_NEAREST, _TOLD = 5, 100
"""Items near a new one that are shown, and rows that are listed one by one."""


async def put_items(service: Service, body: bytes) -> ItemsPutResponse:
    """Keep new and changed items; on return they are on disk and part of this server's release.

    New items wait for what encodes them; where that takes too long, because it is being loaded, the answer says so.
    """
    seconds = service.config.write_seconds
    put = await service.threads.run(lambda: _put(service, body), seconds)
    if put.accepted:
        try:
            await service.threads.run(lambda: refresh_items(service), seconds)
        except StoreLateError:
            return put.answer(pending=len(put.fresh))
    return put.answer(encoded=_encoded(service.releases.current, put.fresh[:_TOLD]))


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
        available=bool(items.facts.showable(int(time.time()))[row]),
        in_training=row < release.trained,
        codes=facets.codes_NM[row].tolist(),
        facets=facets.names(row),
        nearest=[] if row < release.trained else nearest(release, row),
        attributes={name: value for name, value in attributes.items() if value is not None},
    )


def found_item(release: Release, row: int) -> FoundItem:
    """Return one item in short."""
    items = release.items
    return FoundItem(
        item_id=wire_id(items.item_ids[row]), title=items.titles[row], categories=list(items.categories[row])
    )


def nearest(release: Release, row: int) -> list[FoundItem]:
    """Return the items of training that share most codes with an item, those of most events first among equals."""
    codes_NM, trained = release.facets.codes_NM, release.trained
    shared_N = (codes_NM[:trained] == codes_NM[row]).sum(axis=1)
    order = np.lexsort((-release.items.counts_N[:trained], -shared_N))[:_NEAREST]
    return [found_item(release, near) for near in order.tolist() if shared_N[near]]


@dataclass(frozen=True, kw_only=True)
class _Put:
    """Items that are on disk: how many, those that are new, and the counter of items."""

    accepted: int
    fresh: Sequence[str]
    version: int
    rejected: Sequence[Rejection]

    def answer(self, *, encoded: Sequence[EncodedItem] = (), pending: int = 0) -> ItemsPutResponse:
        """Return what clients read."""
        return ItemsPutResponse(
            accepted=self.accepted,
            version=self.version,
            new=len(self.fresh),
            rejected=list(self.rejected[:_TOLD]),
            encoded=list(encoded),
            pending=pending,
        )


def _put(service: Service, body: bytes) -> _Put:
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
    return _Put(accepted=len(good), fresh=fresh, version=version, rejected=rejected)


def _encoded(release: Release, item_ids: Sequence[str]) -> list[EncodedItem]:
    """Return what new items are made of; none of them while no model is loaded, or where it could not encode them."""
    rows = [row for item_id in item_ids if (row := release.items.index_of(item_id)) is not None]
    return [
        EncodedItem(
            item_id=wire_id(release.items.item_ids[row]),
            codes=release.facets.codes_NM[row].tolist(),
            facets=release.facets.names(row),
            nearest=nearest(release, row),
        )
        for row in rows
        if row < len(release.facets.codes_NM)
    ]


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
    if release.model is not None and not isinstance(release.model, SupportsNewItems):
        raise ValueError("item_id: must be an item of the catalogue, because this bundle holds no tokenizer for others")
    known = release.items.item_ids
    if known and isinstance(known[0], int) and not item_id.lstrip("-").isdigit():
        raise ValueError(f"item_id: must be a whole number as in the catalogue, got {shown(item_id)}")
