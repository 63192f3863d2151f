"""The item table of a release: ids, titles, categories, popularity, and every other column for filters."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import ArtifactError
from serving.store.events import UserPast

ItemId = int | str

_T = TypeVar("_T")
_KEPT = 64
"""Masks of conditions, and groups of caps, that a table keeps."""
FOREVER = np.iinfo(np.int64).max
INDEXED = frozenset({"item_id", "title", "categories"})
"""Columns that a table indexes when it is made; it reads the others where they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """What a shop sets for items beside their columns, one entry a row of the table.

    Shape:
        available_N: (items,) whether an item may be shown by the shop's setting.
        starts_N, ends_N: (items,) unix seconds between which an item may be shown.
        added_N: (items,) unix seconds at which an item was first seen; 0 where unknown.
    """

    available_N: BoolArray
    starts_N: IntArray
    ends_N: IntArray
    added_N: IntArray

    @cached_property
    def dated(self) -> bool:
        """Whether some item may be shown at some times only."""
        return bool(self.starts_N.any() or (self.ends_N != FOREVER).any())

    def showable(self, now: int) -> BoolArray:
        """Return which items may be shown at a moment.

        Shape:
            return: (items,), a fresh array.
        """
        if not self.dated:
            return self.available_N.copy()
        return self.available_N & (self.starts_N <= now) & (now < self.ends_N)


def plain_facts(size: int) -> Facts:
    """Return facts of so many items that are all available, at any time; to be changed until a table has them."""
    return Facts(
        available_N=np.ones(size, np.bool_),
        starts_N=np.zeros(size, np.int64),
        ends_N=np.full(size, FOREVER),
        added_N=np.zeros(size, np.int64),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemTable:
    """The catalogue as the edge needs it; a row number means the same item for the life of this table only.

    Shape:
        counts_N: (items,) events per item in the training log; 0 for items added since.
        popular_N: (items,) rows, most popular first.
    """

    item_ids: Sequence[ItemId]
    titles: Sequence[str]
    categories: Sequence[Sequence[str]]
    counts_N: IntArray
    popular_N: IntArray
    facts: Facts
    columns: pa.Table
    _index: Mapping[str, int]
    _lower_titles: Sequence[str]
    _members: Mapping[str, IntArray]
    _kept: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    _values: dict[str, list[Any]] = field(default_factory=dict)
    _rows_seen: WeakKeyDictionary[UserPast, IntArray] = field(default_factory=WeakKeyDictionary)

    def __len__(self) -> int:
        return len(self.item_ids)

    def row_of_text(self, item_id: str) -> int | None:
        """Return the row of an id that was read as text already; None when unknown."""
        return self._index.get(item_id)

    def rows_seen(self, past: UserPast) -> IntArray:
        """Return the rows of all that a user has seen, kept for as long as that past is.

        Shape:
            return: (known items,).
        """
        rows = self._rows_seen.get(past)
        if rows is None:
            found = [row for item_id in past.seen if (row := self._index.get(item_id)) is not None]
            rows = self._rows_seen[past] = np.asarray(found, dtype=np.int64)
        return rows

    def index_of(self, item_id: ItemId) -> int | None:
        """Return the row of an external id, given as a number or as text; None when unknown."""
        return self._index.get(str(item_id))

    def indices_of(self, item_ids: Sequence[ItemId]) -> IntArray:
        """Return the rows of the known ones among the ids.

        Shape:
            return: (known ids,), in the given order.
        """
        found = [index for item_id in item_ids if (index := self._index.get(str(item_id))) is not None]
        return np.asarray(found, dtype=np.int64)

    def members(self, category: str) -> IntArray | None:
        """Return the items of a category (upper and lower case are one), or None when there is none such.

        Shape:
            return: (members,) rows.
        """
        return self._members.get(category.casefold())

    def some_categories(self) -> list[str]:
        """Return a few names of categories."""
        return list(self._members)[:10]

    def values(self, column: str) -> list[Any] | None:
        """Return a column's values as Python objects, read once; None when there is no such column."""
        if column not in self.columns.column_names:
            return None
        if column not in self._values:
            self._values[column] = self.columns[column].to_pylist()
        return self._values[column]

    def cached(self, key: str, make: Callable[[], _T]) -> _T:
        """Return what ``make`` gives, kept under a key for the next request; not to be changed."""
        try:
            found: _T = self._kept[key]
        except KeyError:
            found = self._kept[key] = make()
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def with_columns(self, columns: pa.Table, *, changed: Collection[str]) -> "ItemTable":
        """Return the table of the same items where some columns have changed, none of :data:`INDEXED` among them."""
        values = {name: kept for name, kept in self._values.items() if name not in changed}
        return replace(self, columns=columns, _kept=OrderedDict(), _values=values)

    def with_facts(self, facts: Facts) -> "ItemTable":
        """Return the table of the same columns with other facts; both share all that is made of columns."""
        return replace(self, facts=facts)

    def search(self, query: str, limit: int) -> list[int]:
        """Return the items whose title has every word of the query, most popular first."""
        words = query.casefold().split()
        found: list[int] = []
        for index in self.popular_N.tolist():
            title = self._lower_titles[index]
            if all(word in title for word in words):
                found.append(index)
                if len(found) == limit:
                    break
        return found


def item_table(columns: pa.Table, counts_N: IntArray) -> ItemTable:
    """Return the table of items given as columns in the data contract, all of them available at any time.

    Shape:
        counts_N: (items,) events per item in the training log.
    """
    item_ids: list[ItemId] = columns["item_id"].to_pylist()
    raw_titles = columns["title"].to_pylist() if "title" in columns.column_names else [None] * len(item_ids)
    titles = [str(id_) if title is None else str(title) for id_, title in zip(item_ids, raw_titles, strict=True)]
    raw = columns["categories"].to_pylist() if "categories" in columns.column_names else [None] * len(item_ids)
    categories = [_category_list(value) for value in raw]
    return ItemTable(
        item_ids=item_ids,
        titles=titles,
        categories=categories,
        counts_N=counts_N,
        popular_N=np.argsort(-counts_N, kind="stable").astype(np.int64),
        facts=plain_facts(len(item_ids)),
        columns=columns,
        _index={str(item_id): index for index, item_id in enumerate(item_ids)},
        _lower_titles=[title.casefold() for title in titles],
        _members=_members(categories),
    )


def read_items(bundle: Path, counts_N: IntArray | None) -> ItemTable:
    """Read a bundle's item table.

    Raises:
        ArtifactError: there is none, or it cannot be read, or the counts are of another catalogue.
    """
    path = bundle / "items.parquet"
    if not path.is_file():
        raise ArtifactError(f"a bundle must hold items.parquet, got none at {path}; run `recsys publish` on this run")
    try:
        columns = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArtifactError(f"{path} must be a Parquet file, got {error}; run `recsys publish` again") from error
    if "item_id" not in columns.column_names:
        raise ArtifactError(f"{path} must have item_id, got {columns.column_names}; run `recsys publish` again")
    counts_N = np.zeros(columns.num_rows, np.int64) if counts_N is None else counts_N
    if counts_N.shape != (columns.num_rows,):
        raise ArtifactError(
            f"{bundle / 'popularity.json'} must have one count per item ({columns.num_rows}), got {counts_N.shape}; "
            "run `recsys publish` again"
        )
    return item_table(columns, counts_N)


def _category_list(value: object) -> list[str]:
    if value is None:
        return []
    return [str(part) for part in value if part is not None] if isinstance(value, list) else [str(value)]


def _members(categories: Sequence[Sequence[str]]) -> dict[str, IntArray]:
    members: dict[str, dict[int, None]] = {}
    for index, names in enumerate(categories):
        for name in names:
            members.setdefault(name.casefold(), {})[index] = None
    return {name: np.fromiter(indices, np.int64, len(indices)) for name, indices in members.items()}
