"""Items that arrive after training: their vectors, codes and categories, and their drift.

Axes: N item of the catalogue, I new item, M codebook, F feature.

The catalogue alone grows here; the model has a vector for every item and is widened elsewhere.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np
import pyarrow as pa
from pydantic import Field
from threadpoolctl import threadpool_limits

from recsys.codes.catalogue import Catalogue
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import ArtifactError, DataError
from recsys.core.telemetry import LOG
from recsys.data import schema
from recsys.data.columns import decode, item_columns
from recsys.data.ids import compact_ids, read_ids
from recsys.data.vocabulary import UNKNOWN, Vocabulary, some_ids
from recsys.features.assemble import FeatureBuilder
from recsys.features.categories import named_categories
from recsys.recommender.drift import Drift, DriftConfig, measure_drift
from recsys.tokenizer.base import ItemTokenizer

_WHERE = "new items"
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")


class NewItemsConfig(Config):
    """How new items are placed and evaluated."""

    neighbours: int = Field(default=10, ge=1)
    """Nearest training items that vote on the category of an item that does not name a known one."""
    drift: DriftConfig = DriftConfig()
    """From where on new items count as another kind of items."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NewItems:
    """The grown catalogue, and what is known of the new items at its end.

    ``sharing`` are the new ids whose codes equal those of another item, because no path near was free; normally none.

    Shape:
        vectors_IF: (new items, features).
    """

    catalogue: Catalogue
    vectors_IF: FloatArray
    sharing: tuple[int | str, ...]
    drift: Drift


def add_items(
    items: pa.Table,
    *,
    builder: FeatureBuilder,
    tokenizer: ItemTokenizer,
    catalogue: Catalogue,
    config: NewItemsConfig | None = None,
) -> NewItems:
    """Return the catalogue with new items appended; all that it held stays as it was.

    Args:
        items: new items in the data contract; title, text, vectors and categories may be missing.
        builder: the run's feature builder.
        tokenizer: the run's tokenizer.
        catalogue: the run's catalogue, maybe grown before; its first rows are the builder's training items. A new item
            that names one of its categories gets that; any other gets the most frequent one among its nearest training
            items.
        config: how items are placed and evaluated.

    Raises:
        DataError: an id is missing, twice there or in the catalogue already, or a column cannot be used.
        ArtifactError: the builder and the catalogue are of different runs.
    """
    config = config or NewItemsConfig()
    trained = builder.fitted
    _require_same_run(trained, catalogue)
    items = _in_contract(items)
    ids = _new_ids(items, catalogue)
    encoded = builder.encode(items)
    codes_IM = np.zeros((0, catalogue.layout.num_codebooks), np.int64)
    if ids:
        codes_IM = tokenizer.encode(encoded.vectors_NF, taken_NM=catalogue.codes_NM, resolve=True)
    category_I = named_categories(items, catalogue.category_names)
    unplaced_I = np.flatnonzero(category_I < 0)
    as_new = builder.as_new()
    category_I[unplaced_I] = _vote(
        as_new.vectors_NF, catalogue.category_N[:trained], encoded.vectors_NF[unplaced_I], config.neighbours
    )
    grown = replace(
        catalogue,
        item_ids=[*catalogue.item_ids, *ids],
        codes_NM=np.concatenate([catalogue.codes_NM, codes_IM]),
        category_N=np.concatenate([catalogue.category_N, category_I]),
    )
    return NewItems(
        catalogue=grown,
        vectors_IF=encoded.vectors_NF,
        sharing=_sharing(grown, len(ids)),
        drift=measure_drift(as_new, encoded, tokenizer, config.drift),
    )


def _require_same_run(trained: int, catalogue: Catalogue) -> None:
    if trained > len(catalogue.codes_NM):
        raise ArtifactError(
            f"the catalogue must begin with the {trained} items the features were fitted on, got "
            f"{len(catalogue.codes_NM)} items; load both from the same run"
        )


def _in_contract(items: pa.Table) -> pa.Table:
    if schema.ITEM not in items.column_names:
        raise DataError(
            f"{_WHERE}: column {schema.ITEM!r} must be there, got columns {items.column_names[:20]}; add it or rename "
            f"the one meant"
        )
    columns = {name: decode(items[name]) for name in items.column_names}
    read = read_ids(columns[schema.ITEM], f"{_WHERE}: column {schema.ITEM!r}")
    if read.faults:
        causes = ", ".join(f"{count} {cause}" for cause, count in read.faults.items())
        raise DataError(f"{_WHERE}: every item must have an id, got {causes}; fill or drop those rows")
    columns[schema.ITEM] = compact_ids(read.texts)
    return pa.table(item_columns(columns, _WHERE))


def _new_ids(items: pa.Table, catalogue: Catalogue) -> list[int | str]:
    """Return the new ids in the catalogue's type, if each is new."""
    ids: list[int | str] = items[schema.ITEM].to_pylist()
    twice = [id_ for id_, count in Counter(map(str, ids)).items() if count > 1]
    if twice:
        raise DataError(f"{_WHERE}: ids must differ, got {some_ids(twice)} more than once; keep one row of each")
    found = Vocabulary(catalogue.item_ids).find(ids)
    old = [str(ids[place]) for place in np.flatnonzero(found.rows_V != UNKNOWN)]
    if old:
        raise DataError(
            f"{_WHERE}: ids must not be in the catalogue yet, got {some_ids(old)}; leave these rows out if the items "
            f"are unchanged, and if they changed train again, or give the changed item an id of its own"
        )
    return _in_type_of(catalogue.item_ids, ids)


def _in_type_of(known: Sequence[int | str], ids: list[int | str]) -> list[int | str]:
    if not known or not ids or isinstance(known[0], type(ids[0])):
        return ids
    if isinstance(known[0], str):
        return [str(id_) for id_ in ids]
    words = [str(id_) for id_ in ids if not _INTEGER.fullmatch(str(id_))]
    if words:
        raise DataError(
            f"{_WHERE}: ids must be whole numbers as in the catalogue, got {some_ids(words)}; number these items, or "
            f"train again with ids that are text"
        )
    return [int(id_) for id_ in ids]


def _vote(vectors_NF: FloatArray, category_N: IntArray, new_IF: FloatArray, neighbours: int) -> IntArray:
    """Return the most frequent category among each vector's nearest ones, the nearest one's among equals."""
    if not len(new_IF):
        return np.zeros(0, np.int64)
    index = faiss.IndexFlatL2(vectors_NF.shape[1])
    with threadpool_limits(1):
        index.add(np.ascontiguousarray(vectors_NF, dtype=np.float32))
        _, nearest_IK = index.search(np.ascontiguousarray(new_IF), min(neighbours, len(vectors_NF)))
    # Counter.most_common keeps the order of first appearance among equals, and the nearest come first.
    return np.array([Counter(row_K.tolist()).most_common(1)[0][0] for row_K in category_N[nearest_IK]], np.int64)


def _sharing(grown: Catalogue, new: int) -> tuple[int | str, ...]:
    _, path_N, counts_P = np.unique(grown.codes_NM, axis=0, return_inverse=True, return_counts=True)
    first = len(grown.codes_NM) - new
    rows = first + np.flatnonzero(counts_P[path_N.reshape(-1)][first:] > 1)
    if len(rows):
        LOG.warning(
            "%s: %d of %d share all codes with another item; no path near them was free", _WHERE, len(rows), new
        )
    return tuple(grown.item_ids[int(row)] for row in rows)
