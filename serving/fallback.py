"""Owns the answer without a model: the item table, and the chain last good, popular in category, popular."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import ArtifactError

ItemId = int | str


@dataclass(frozen=True, kw_only=True)
class ItemTable:
    """The catalogue as the edge needs it: ids, titles, categories, popularity.

    Shape:
        counts_N: (items,) events per item in the training log.
        popular_N: (items,) catalogue indices, most popular first.
    """

    item_ids: Sequence[ItemId]
    titles: Sequence[str]
    categories: Sequence[Sequence[str]]
    counts_N: IntArray
    popular_N: IntArray
    model_version: str
    _index: dict[str, int]
    _lower_titles: Sequence[str]
    _members: dict[str, IntArray]

    def __len__(self) -> int:
        return len(self.item_ids)

    def index_of(self, item_id: ItemId) -> int | None:
        """Return the catalogue index of an external id, given as a number or as text; None when unknown."""
        return self._index.get(str(item_id))

    def indices_of(self, item_ids: Sequence[ItemId]) -> IntArray:
        """Return the indices of the known ones among the ids.

        Shape:
            return: (known ids,), in the given order.
        """
        found = [index for item_id in item_ids if (index := self.index_of(item_id)) is not None]
        return np.asarray(found, dtype=np.int64)

    def members(self, category: str) -> IntArray | None:
        """Return the items of a category (upper and lower case are one), or None when there is none such.

        Shape:
            return: (members,) catalogue indices.
        """
        return self._members.get(category.casefold())

    def search(self, query: str, limit: int) -> list[int]:
        """Return the items whose title has every word of the query, most popular first."""
        words = query.casefold().split()
        found: list[int] = []
        for index in self.popular_N:
            title = self._lower_titles[index]
            if all(word in title for word in words):
                found.append(int(index))
                if len(found) == limit:
                    break
        return found


def read_items(bundle: Path) -> ItemTable:
    """Read a bundle's item table; popularity and version may be missing, the items may not."""
    path = bundle / "items.parquet"
    if not path.is_file():
        raise ArtifactError(f"a bundle must hold items.parquet, got none at {path}; run `recsys publish` on this run")
    table = pq.read_table(path)
    item_ids: list[ItemId] = table["item_id"].to_pylist()
    size = len(item_ids)
    raw_titles = table["title"].to_pylist() if "title" in table.column_names else [None] * size
    titles: list[str] = [
        str(item_id) if title is None else str(title) for item_id, title in zip(item_ids, raw_titles, strict=True)
    ]
    raw = table["categories"].to_pylist() if "categories" in table.column_names else [None] * size
    categories = [_category_list(value) for value in raw]
    counts_N = _counts(bundle / "popularity.json", size)
    manifest = bundle / "manifest.json"
    version = _json_value(manifest, "model_version") if manifest.is_file() else "unknown"
    return ItemTable(
        item_ids=item_ids,
        titles=titles,
        categories=categories,
        counts_N=counts_N,
        popular_N=np.argsort(-counts_N, kind="stable").astype(np.int64),
        model_version=str(version),
        _index={str(item_id): index for index, item_id in enumerate(item_ids)},
        _lower_titles=[title.casefold() for title in titles],
        _members=_members(categories),
    )


class Fallback:
    """Answers from what is known without a model; safe to use from several threads."""

    def __init__(self, items: ItemTable, *, remembered_users: int = 10_000) -> None:
        self._items = items
        self._limit = remembered_users
        self._last: OrderedDict[str, IntArray] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, user_id: str, items: IntArray) -> None:
        """Keep a good answer for the user; the user unheard of for longest makes room."""
        with self._lock:
            self._last[user_id] = items
            self._last.move_to_end(user_id)
            while len(self._last) > self._limit:
                self._last.popitem(last=False)

    def recommend(
        self, *, user_id: str | None, history: IntArray, eligible_N: BoolArray, n: int
    ) -> tuple[str, IntArray]:
        """Return the first strategy of the chain that had something, and up to ``n`` eligible items.

        Later links fill up what earlier ones leave open.

        Shape:
            history: (events,) catalogue indices, oldest first.
            eligible_N: (items,) True where an item may be shown.
        """
        open_N = eligible_N.copy()
        strategy, parts, left = "", [], n
        for name, candidates in self._links(user_id, history):
            chosen = candidates[open_N[candidates]][:left]
            if len(chosen):
                strategy = strategy or name
                parts.append(chosen)
                open_N[chosen] = False
                left -= len(chosen)
            if left == 0:
                break
        return strategy or "popular", np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _links(self, user_id: str | None, history: IntArray) -> list[tuple[str, IntArray]]:
        links: list[tuple[str, IntArray]] = []
        if user_id is not None:
            with self._lock:
                last = self._last.get(user_id)
            if last is not None:
                links.append(("last_good", last))
        if len(history) and (categories := self._items.categories[int(history[-1])]):
            members = self._items.members(categories[-1])
            if members is not None:
                by_count = np.argsort(-self._items.counts_N[members], kind="stable")
                links.append(("popular_in_category", members[by_count]))
        links.append(("popular", self._items.popular_N))
        return links


def _category_list(value: object) -> list[str]:
    if value is None:
        return []
    return [str(part) for part in value if part is not None] if isinstance(value, list) else [str(value)]


def _counts(path: Path, size: int) -> IntArray:
    if not path.is_file():
        return np.zeros(size, np.int64)
    counts_N = np.asarray(_json_value(path, "counts"), dtype=np.int64)
    if counts_N.shape != (size,):
        raise ArtifactError(
            f"{path} must have one count per item ({size}), got {counts_N.shape}; run `recsys publish` again"
        )
    return counts_N


def _json_value(path: Path, key: str) -> Any:
    try:
        return json.loads(path.read_text())[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} must be JSON with {key}, got {error!r}; run `recsys publish` again") from error


def _members(categories: Sequence[Sequence[str]]) -> dict[str, IntArray]:
    members: dict[str, dict[int, None]] = {}
    for index, names in enumerate(categories):
        for name in names:
            members.setdefault(name.casefold(), {})[index] = None
    return {name: np.fromiter(indices, np.int64, len(indices)) for name, indices in members.items()}
