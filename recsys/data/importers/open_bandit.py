"""Importing the Open Bandit data: fashion items shown in three places, with the true chance of each."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.clean import check_columns
from recsys.data.columns import decode
from recsys.data.importers.delimited import read_delimited
from recsys.data.importers.raw import RawTable, joined
from recsys.data.impressions import clean_impressions
from recsys.data.numbers import read_numbers
from recsys.data.options import ImportOptions
from recsys.data.table import BadRows, Dataset, build_dataset, read_parquet
from recsys.data.times import read_times

_CAMPAIGN = "campaign"
_CONTEXT = [f"user_feature_{number}" for number in range(4)]
_NAMES = {"click_indicator": "click", "action_prob": schema.PROPENSITY, "propensity_score": schema.PROPENSITY}


def import_open_bandit(source: Path, options: ImportOptions) -> Dataset:
    """Import an Open Bandit folder, ``POLICY/CAMPAIGN/CAMPAIGN.csv`` as published or one table in Parquet.

    Every row becomes an impression with its propensity, and a clicked one an interaction. Users are not known: a user
    is the set of hashed features that came with a request, which is also the ``context``. Item ids are those of their
    campaign (``men-3``), because each campaign numbers its items from 0.
    """
    log, items = _tables(source)
    where = str(source)
    check_columns(log.table, (schema.TIMESTAMP, schema.ITEM, schema.POSITION, "click", schema.PROPENSITY), where)
    rows = log.table
    context = _context(rows)
    times = read_times(
        rows[schema.TIMESTAMP], schema.TIMESTAMP, unit="iso" if _is_text(rows) else None, now=options.now
    )
    clicks = read_numbers(rows["click"], f"{where}: column 'click'").whole_E == 1
    columns = {
        schema.REQUEST: pa.array(np.arange(rows.num_rows)),
        schema.USER: context,
        schema.ITEM: _item_ids(rows),
        schema.POSITION: rows[schema.POSITION],
        schema.TIMESTAMP: pa.array(times.seconds_E, mask=~times.valid_E),
        schema.REWARD: pa.array(clicks.astype(np.float64)),
        schema.PROPENSITY: rows[schema.PROPENSITY],
        schema.POLICY: rows[schema.POLICY]
        if schema.POLICY in rows.column_names
        else pa.nulls(rows.num_rows, pa.string()),
        schema.CONTEXT: context,
    }
    impressions = clean_impressions(pa.table(columns), where)
    clicked = impressions.select([schema.USER, schema.ITEM, schema.TIMESTAMP]).filter(pa.array(clicks))
    if clicked.num_rows == 0:
        raise DataError(
            f"{where} must have at least one click, got none in {rows.num_rows:,} rows; take more of the log"
        )
    bad = BadRows().plus({**log.counts, "impression without a click": int((~clicks).sum())})
    options = ImportOptions(time_unit="s", allow_unmatched=options.allow_unmatched)
    dataset = build_dataset(
        clicked, items, bad_rows=bad, notes=(*log.notes, *times.notes), where=where, options=options
    )
    return Dataset(
        interactions=dataset.interactions,
        items=dataset.items,
        bad_rows=dataset.bad_rows,
        notes=dataset.notes,
        impressions=impressions,
    )


def _is_text(rows: pa.Table) -> bool:
    return bool(pa.types.is_string(rows[schema.TIMESTAMP].type))


def _tables(source: Path) -> tuple[RawTable, pa.Table | None]:
    if (source / schema.INTERACTIONS).exists():
        log = RawTable(table=_renamed(read_parquet(source / schema.INTERACTIONS)), path=source)
        path = source / schema.ITEMS
        items = _decoded(_renamed(read_parquet(path))) if path.exists() else None
        return RawTable(table=_decoded(log.table), path=source), _named_items(items)
    logs = [path for path in sorted(source.glob("*/*/*.csv")) if path.name == f"{path.parent.name}.csv"]
    if not logs:
        raise DataError(
            f"{source} must hold POLICY/CAMPAIGN/CAMPAIGN.csv or {schema.INTERACTIONS}, got neither; "
            "unpack the archive and name the folder with its policies"
        )
    parts = [_labelled(read_delimited(path), policy=path.parts[-3], campaign=path.parts[-2]) for path in logs]
    contexts = {path.parent.name: path.parent / "item_context.csv" for path in logs}
    tables = [
        _labelled(read_delimited(path), policy=None, campaign=campaign)
        for campaign, path in contexts.items()
        if path.exists()
    ]
    return joined(parts, source), _named_items(joined(tables, source).table) if tables else None


def _labelled(raw: RawTable, *, policy: str | None, campaign: str) -> RawTable:
    table = _renamed(raw.table)
    labels = {_CAMPAIGN: campaign} | ({} if policy is None else {schema.POLICY: policy})
    for name, value in labels.items():
        table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
    return RawTable(table=table, path=raw.path, counts=raw.counts, notes=raw.notes)


def _renamed(table: pa.Table) -> pa.Table:
    kept = [name for name in table.column_names if name and not name.startswith("Unnamed")]
    return table.select(kept).rename_columns([_NAMES.get(name, name) for name in kept])


def _decoded(table: pa.Table) -> pa.Table:
    """Return the columns without dictionaries, text as plain text."""
    return pa.table({name: decode(table[name]) for name in table.column_names})


def _item_ids(rows: pa.Table) -> pa.ChunkedArray:
    ids = rows[schema.ITEM].cast(pa.string())
    return pc.binary_join_element_wise(rows[_CAMPAIGN], ids, "-") if _CAMPAIGN in rows.column_names else ids


def _named_items(items: pa.Table | None) -> pa.Table | None:
    if items is None:
        return None
    return items.set_column(items.column_names.index(schema.ITEM), schema.ITEM, _item_ids(items))


def _context(rows: pa.Table) -> pa.ChunkedArray:
    """Return the hashed features of a request as one text."""
    there = [rows[name].cast(pa.string()) for name in _CONTEXT if name in rows.column_names]
    if not there:
        return pa.chunked_array([pa.array(["unknown"] * rows.num_rows)])
    return pc.binary_join_element_wise(*[pc.fill_null(column, "") for column in there], "|")
