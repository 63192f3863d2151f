"""The table of impressions, what was shown to whom with which reward, as replay and off-policy estimates read it.

Axes: E row, an item in a place of a shown slate.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.clean import check_columns
from recsys.data.columns import decode, id_column
from recsys.data.numbers import floats, read_numbers


def clean_impressions(table: pa.Table, where: str) -> pa.Table:
    """Return impressions in the contract's types.

    Nothing is left out, because an estimate from part of a slate would be another one: a value that does not fit ends
    the reading.

    Raises:
        DataError: a column is missing, a needed value is null, or a propensity is not in (0, 1].
    """
    check_columns(table, schema.IMPRESSION_COLUMNS, where)
    columns = {name: decode(table[name]) for name in table.column_names}
    for name in (schema.REQUEST, schema.USER, schema.ITEM):
        columns[name] = id_column(columns[name], f"{where}: column {name!r}")
    for name in (schema.POSITION, schema.TIMESTAMP):
        numbers = read_numbers(columns[name], f"{where}: column {name!r}")
        columns[name] = pa.chunked_array([pa.array(numbers.whole_E, mask=~numbers.valid_E)])
    for name in (schema.REWARD, schema.PROPENSITY, schema.SLATE_PROPENSITY):
        if name in columns:
            columns[name] = floats(columns[name], f"{where}: column {name!r}")
    for name in schema.IMPRESSION_COLUMNS:
        if columns[name].null_count and name != schema.USER:
            row = int(np.flatnonzero(pc.is_null(columns[name]).to_numpy())[0])
            raise DataError(f"{where}: column {name!r} must have a value in every row, got none in row {row + 1}")
    for name in (schema.PROPENSITY, schema.SLATE_PROPENSITY):
        if name in columns:
            _check_propensities(columns[name], f"{where}: column {name!r}")
    return pa.table(columns)


def _check_propensities(column: pa.ChunkedArray, where: str) -> None:
    low_high = pc.min_max(column).as_py()
    if low_high["min"] is not None and not (low_high["min"] > 0 and low_high["max"] <= 1):
        raise DataError(
            f"{where} must lie above 0 and at most at 1, got {low_high['min']} to {low_high['max']}; an item that was "
            "shown had a chance to be shown"
        )
