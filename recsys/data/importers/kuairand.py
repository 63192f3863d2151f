"""Importing KuaiRand: videos shown in a feed, with what the user did; random exposures have a known propensity.

Axes: E row of the log.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.importers.delimited import read_delimited
from recsys.data.importers.raw import RawTable, joined
from recsys.data.impressions import clean_impressions
from recsys.data.numbers import read_numbers
from recsys.data.options import ImportOptions
from recsys.data.table import BadRows, Dataset, build_dataset, read_parquet

_TIME, _CLICK, _HATE, _RANDOM = "time_ms", "is_click", "is_hate", "is_rand"
_EVENTS = ("is_hate", "is_forward", "is_comment", "is_follow", "is_like", "is_click")
"""What a user may have done, the most telling first; a row's event type is the first that happened."""
_FLAGS = (*_EVENTS, _RANDOM)


def import_kuairand(source: Path, options: ImportOptions) -> Dataset:
    """Import a KuaiRand folder: ``log_*.csv`` with ``video_features_basic*.csv``, or one in Parquet.

    Each exposure becomes an impression rewarded by its click. Exposures with an action become interactions, typed by
    the most telling action; those without one stay impressions only. Videos of the random experiment were shown with
    equal chances, so their propensity is one over the number of videos in it.
    """
    log, items = _tables(source)
    rows = _checked(log, source)
    flags = {name: _flag(rows, name, source) for name in _FLAGS}
    times = _times(rows, source)
    events = rows.append_column(schema.EVENT_TYPE, _event_types(flags, rows.num_rows))
    events = events.set_column(events.column_names.index(_TIME), schema.TIMESTAMP, rows[_TIME])
    acted_E = np.logical_or.reduce([flags[name] for name in _EVENTS])
    kept = events.select([schema.USER, schema.ITEM, schema.TIMESTAMP, schema.EVENT_TYPE]).filter(pa.array(acted_E))
    bad = BadRows().plus({**log.counts, "exposure without an action": int((~acted_E).sum())})
    options = ImportOptions(time_unit="ms", allow_unmatched=options.allow_unmatched)
    dataset = build_dataset(kept, items, bad_rows=bad, notes=log.notes, where=str(source), options=options)
    impressions = _impressions(rows, times, flags, str(source))
    return Dataset(
        interactions=dataset.interactions,
        items=dataset.items,
        bad_rows=dataset.bad_rows,
        notes=dataset.notes,
        impressions=impressions,
    )


def _tables(source: Path) -> tuple[RawTable, pa.Table | None]:
    folder = source / "data" if (source / "data").is_dir() else source
    if (folder / schema.INTERACTIONS).exists():
        path = folder / schema.ITEMS
        log = RawTable(table=read_parquet(folder / schema.INTERACTIONS), path=folder / schema.INTERACTIONS)
        return log, read_parquet(path) if path.exists() else None
    logs = sorted(folder.glob("log_*.csv"))
    if not logs:
        raise DataError(
            f"{source} must be a KuaiRand folder with log_*.csv or {schema.INTERACTIONS}, got none of them; "
            "unpack the archive and name the folder inside"
        )
    videos = sorted(folder.glob("video_features_basic*.csv"))
    items = _renamed(joined([read_delimited(path) for path in videos], folder).table) if videos else None
    return joined([read_delimited(path) for path in logs], folder), items


def _renamed(table: pa.Table) -> pa.Table:
    """Call KuaiRand's ``video_id`` by the contract's name, and the tags categories."""
    names = {"video_id": schema.ITEM, "tag": schema.CATEGORIES}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _checked(log: RawTable, source: Path) -> pa.Table:
    table = _renamed(log.table)
    for name in (schema.USER, schema.ITEM, _TIME, _CLICK):
        if name not in table.column_names:
            raise DataError(
                f"{source}: column {name!r} must be there, got {table.column_names[:20]}; take the log as published"
            )
    kept = [name for name in (schema.USER, schema.ITEM, _TIME, *_FLAGS) if name in table.column_names]
    return table.select(kept)


def _flag(rows: pa.Table, name: str, source: Path) -> BoolArray:
    """Return where a flag is 1; a log without the column has it nowhere."""
    if name not in rows.column_names:
        return np.zeros(rows.num_rows, dtype=np.bool_)
    numbers = read_numbers(rows[name], f"{source}: column {name!r}")
    return numbers.valid_E & (numbers.whole_E == 1)


def _times(rows: pa.Table, source: Path) -> IntArray:
    return read_numbers(rows[_TIME], f"{source}: column {_TIME!r}").whole_E


def _event_types(flags: dict[str, BoolArray], rows: int) -> pa.Array:
    types = np.full(rows, "impression", dtype=object)
    for name in reversed(_EVENTS):
        types[flags[name]] = name.removeprefix("is_")
    return pa.array(types, pa.string())


def _impressions(rows: pa.Table, times_E: IntArray, flags: dict[str, BoolArray], where: str) -> pa.Table:
    """Return one impression a row: its request is the row, because a feed shows videos one by one."""
    random_E = flags[_RANDOM]
    in_experiment = len(rows[schema.ITEM].filter(pa.array(random_E)).unique())
    propensity = pa.array(np.where(random_E, 1 / max(in_experiment, 1), np.nan), mask=~random_E)
    columns = {
        schema.REQUEST: pa.array(np.arange(rows.num_rows)),
        schema.USER: rows[schema.USER],
        schema.ITEM: rows[schema.ITEM],
        schema.POSITION: pa.array(np.ones(rows.num_rows, np.int64)),
        schema.TIMESTAMP: pa.array(times_E // 1000),
        schema.REWARD: pa.array(flags[_CLICK].astype(np.float64)),
        schema.POLICY: pc.if_else(pa.array(random_E), "random", "feed"),
    }
    if random_E.any():
        columns[schema.PROPENSITY] = propensity
    return clean_impressions(pa.table(columns), where)
