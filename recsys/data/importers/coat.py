"""Importing Coat: coats that users chose to rate, and coats that were given to them at random.

Axes: U user, N item.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.clean import check_columns
from recsys.data.columns import codes_of
from recsys.data.importers.text_source import read_text
from recsys.data.impressions import clean_impressions
from recsys.data.options import ImportOptions
from recsys.data.table import BadRows, Dataset, build_dataset, read_parquet

_SOURCE, _SELF, _RANDOM = "source", "self_selected", "random"
_FILES = {"train.ascii": _SELF, "test.ascii": _RANDOM}


def import_coat(source: Path, options: ImportOptions) -> Dataset:
    """Import Coat: ``train.ascii`` and ``test.ascii`` as published (users in rows, 0 unrated), or a table in Parquet.

    Self-selected ratings become interactions. Both parts become impressions, rewarded by the rating, each a request
    that shows one coat. Its propensity is one over the number of coats where they were given at random; for a chosen
    coat, the source's chance that the user rates it at all, over the number of ratings of that user. There are no
    times: all are 0, and the order of rows is no order in time.
    """
    rows, items = _tables(source)
    where = str(source)
    check_columns(rows, (schema.USER, schema.ITEM, schema.RATING, _SOURCE), where)
    rows = rows.append_column(schema.TIMESTAMP, pa.array(np.zeros(rows.num_rows, np.int64)))
    chosen = pc.equal(rows[_SOURCE].cast(pa.string()), _SELF)
    kept = rows.filter(chosen).select([schema.USER, schema.ITEM, schema.TIMESTAMP, schema.RATING])
    bad = BadRows().plus({"rating of a coat given at random": rows.num_rows - kept.num_rows})
    notes = ("there are no times: every event is at 0 and the order of a user's events means nothing",)
    dataset = build_dataset(kept, items, bad_rows=bad, notes=notes, where=where, options=options)
    return Dataset(
        interactions=dataset.interactions,
        items=dataset.items,
        bad_rows=dataset.bad_rows,
        notes=dataset.notes,
        impressions=_impressions(rows, chosen, where),
    )


def _tables(source: Path) -> tuple[pa.Table, pa.Table | None]:
    if (source / schema.INTERACTIONS).exists():
        items = source / schema.ITEMS
        rows = read_parquet(source / schema.INTERACTIONS)
        return rows, _with_categories(read_parquet(items)) if items.exists() else None
    parts = [_matrix(source / name, label) for name, label in _FILES.items() if (source / name).exists()]
    if not parts:
        raise DataError(
            f"{source} must hold {' and '.join(_FILES)} or {schema.INTERACTIONS}, got none of them; "
            "unpack the archive and name the folder inside"
        )
    return pa.concat_tables(parts), None


def _matrix(path: Path, label: str) -> pa.Table:
    """Read ratings written as a matrix of users and items."""
    lines = [line.split() for line in read_text(path).data.decode("utf-8").splitlines() if line.strip()]
    try:
        rating_UN = np.array(lines, dtype=np.int16).reshape(len(lines), -1)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{path} must hold a matrix of whole numbers, got {error}; take the file as published"
        ) from error
    user_E, item_E = np.nonzero(rating_UN)
    return pa.table(
        {
            schema.USER: user_E,
            schema.ITEM: item_E,
            schema.RATING: rating_UN[user_E, item_E],
            _SOURCE: [label] * len(user_E),
        }
    )


def _with_categories(items: pa.Table) -> pa.Table:
    """Call the features of a coat its categories where it has no others."""
    names = ["categories" if name == "features" else name for name in items.column_names]
    return items if schema.CATEGORIES in items.column_names else items.rename_columns(names)


def _impressions(rows: pa.Table, chosen: pa.ChunkedArray, where: str) -> pa.Table:
    own = rows[schema.PROPENSITY] if schema.PROPENSITY in rows.column_names else pa.nulls(rows.num_rows, pa.float64())
    at_random = pa.scalar(1 / len(rows[schema.ITEM].unique()), pa.float64())
    columns = {
        schema.REQUEST: pa.array(np.arange(rows.num_rows)),
        schema.USER: rows[schema.USER],
        schema.ITEM: rows[schema.ITEM],
        schema.POSITION: pa.array(np.ones(rows.num_rows, np.int64)),
        schema.TIMESTAMP: rows[schema.TIMESTAMP],
        schema.REWARD: rows[schema.RATING],
        schema.PROPENSITY: pc.if_else(chosen, pc.divide(own, _ratings_of_users(rows)), at_random),
        schema.POLICY: rows[_SOURCE],
    }
    return clean_impressions(pa.table(columns), where)


def _ratings_of_users(rows: pa.Table) -> pa.Array:
    """Return for each row how many ratings its user has in its part."""
    part_E = codes_of(rows[schema.USER]) * 2 + codes_of(rows[_SOURCE].cast(pa.string()))
    return pa.array(np.bincount(part_E)[part_E].astype(np.float64))
