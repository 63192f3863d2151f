"""Appending a new day to a prepared log: old rows keep their numbers, new rows follow them.

Axes: E event (of the old log or of the day), N item, U user.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.events import EventLog, build_log
from recsys.data.prepare import PrepareConfig, Prepared, wanted_events
from recsys.data.splits import time_cuts
from recsys.data.table import Dataset
from recsys.data.vocabulary import UNKNOWN, Vocabulary


@dataclass(frozen=True, kw_only=True)
class DayCounts:
    """What a day brought.

    ``repeated`` events were in the log already, with user, item and time; ``unwanted`` ones are left out by the run's
    own filters; ``late`` ones are older than the newest event that their user had. ``changed_items`` are rows of known
    items, whose words and codes stay as they are; ``unread_columns`` are item columns that the run does not have.
    """

    events: int
    repeated: int
    unwanted: int
    late: int
    new_users: int
    new_items: int
    changed_items: int
    unread_columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Appended:
    """The longer log, and which of its events the day brought.

    Shape:
        of_day_E: (events,) bool.
    """

    prepared: Prepared
    counts: DayCounts
    of_day_E: BoolArray


def append(previous: Prepared, day: Dataset, config: PrepareConfig) -> Appended:
    """Return a prepared log with a day behind it; users and items keep their rows, new ones come after them.

    The k-core of the configuration is not applied: a day's new items have few events.

    Raises:
        DataError: the day has no new event that belongs into the run, or its item ids cannot stand beside the run's.
    """
    rows = day.interactions
    wanted_E = wanted_events(rows, config)
    items = Vocabulary(previous.items[schema.ITEM].to_pylist())
    new_items, unread = _new_items(previous.items, day.items, items)
    all_items = Vocabulary([*items.ids, *new_items[schema.ITEM].to_pylist()])
    rows = rows.filter(pa.array(wanted_E))
    item_E = all_items.rows_of(rows[schema.ITEM], "item_id")
    users = previous.users
    user_E = users.rows_of(rows[schema.USER], "user_id")
    new_users = list(dict.fromkeys(rows[schema.USER].filter(pa.array(user_E == UNKNOWN)).to_pylist()))
    all_users = Vocabulary(_one_type([*users.ids, *new_users]))
    user_E = all_users.rows_of(rows[schema.USER], "user_id")
    time_E = np.asarray(rows[schema.TIMESTAMP].to_numpy(), np.int64)
    fresh_E = ~_repeated(previous.log, user_E, item_E, time_E)
    if not fresh_E.any():
        raise DataError(
            f"a new day must have events that the run wants and does not have, got {day.interactions.num_rows} rows, "
            f"of which {int((~wanted_E).sum())} are not wanted by [data] and {int((~fresh_E).sum())} are in the run "
            f"already; give the events since {_newest(previous.log)}"
        )
    position_E = np.asarray(rows[schema.POSITION].to_numpy(), np.int64)
    events = _Events(user_E=user_E, item_E=item_E, time_E=time_E, position_E=position_E).where(fresh_E)
    log, of_day_E = _joined(previous.log, events, num_users=len(all_users), num_items=len(all_items))
    if config.split == "time":
        shares = {"test_share": config.test_share, "validation_share": config.validation_share}
        log = replace(log, cuts=time_cuts(log.timestamps_E, **shares))
    counts = DayCounts(
        events=int(fresh_E.sum()),
        repeated=int((~fresh_E).sum()),
        unwanted=int((~wanted_E).sum()),
        late=_late(previous.log, events),
        new_users=len(new_users),
        new_items=new_items.num_rows,
        changed_items=_named_again(day.items, items),
        unread_columns=unread,
    )
    report = previous.report | {
        "rows_read": _number(previous.report, "rows_read") + day.interactions.num_rows,
        "items_without_events": int((log.counts_N == 0).sum()),
        "users": log.num_users,
        "items": log.num_items,
        "events": len(log.items_E),
        "day": {name: value for name, value in asdict(counts).items() if isinstance(value, int)},
    }
    if log.cuts is not None:
        report["cuts"] = asdict(log.cuts)
    table = pa.concat_tables([previous.items, new_items])
    prepared = Prepared(log=log, user_ids=list(all_users.ids), items=table, report=report)
    return Appended(prepared=prepared, counts=counts, of_day_E=of_day_E)


@dataclass(frozen=True, kw_only=True)
class _Events:
    user_E: IntArray
    item_E: IntArray
    time_E: IntArray
    position_E: IntArray

    def where(self, kept_E: BoolArray) -> "_Events":
        return _Events(**{name: values_E[kept_E] for name, values_E in vars(self).items()})


def _joined(log: EventLog, day: _Events, *, num_users: int, num_items: int) -> tuple[EventLog, BoolArray]:
    """Return both together, sorted by user, time and order, and which events are of the day."""
    old_user_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    user_E = np.concatenate([old_user_E, day.user_E])
    time_E = np.concatenate([log.timestamps_E, day.time_E])
    order_E = np.concatenate([np.arange(len(old_user_E)), len(old_user_E) + np.argsort(np.argsort(day.position_E))])
    item_E = np.concatenate([log.items_E, day.item_E])
    joined = build_log(user_E, item_E, time_E, order_E, num_users=num_users, num_items=num_items)
    by_E = np.lexsort((order_E, time_E, user_E))
    return joined, np.asarray(by_E >= len(old_user_E))


def _repeated(log: EventLog, user_E: IntArray, item_E: IntArray, time_E: IntArray) -> BoolArray:
    """Return which events a log has already, by user, item and time."""
    old_user_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    near_E = np.isin(old_user_E, user_E)
    old = np.stack([old_user_E[near_E], log.items_E[near_E], log.timestamps_E[near_E]], axis=1)
    new = np.stack([user_E, item_E, time_E], axis=1)
    key = np.dtype([("user", np.int64), ("item", np.int64), ("time", np.int64)])
    new_key, old_key = (np.ascontiguousarray(rows, np.int64).view(key).ravel() for rows in (new, old))
    return np.isin(new_key, old_key)


def _newest(log: EventLog) -> str:
    """Return the time of the newest event in words."""
    return datetime.fromtimestamp(int(log.timestamps_E.max(initial=0)), UTC).isoformat(sep=" ")


def _late(log: EventLog, day: _Events) -> int:
    """Return how many events are older than the newest event that their user had."""
    newest_U = np.full(max(log.num_users, int(day.user_E.max(initial=-1)) + 1), np.iinfo(np.int64).min)
    used_U = np.flatnonzero(log.lengths_U > 0)
    newest_U[used_U] = log.timestamps_E[log.offsets_U1[used_U + 1] - 1]
    return int((day.time_E < newest_U[day.user_E]).sum())


def _new_items(old: pa.Table, day: pa.Table, known: Vocabulary) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the day's items that are not known, in the columns and types of the old ones, and the columns left out."""
    rows_N = known.rows_of(day[schema.ITEM], "item_id")
    day = day.filter(pa.array(rows_N == UNKNOWN))
    columns = {}
    for field in old.schema:
        if field.name not in day.column_names:
            columns[field.name] = pa.nulls(len(day), field.type)
            continue
        try:
            columns[field.name] = day[field.name].cast(field.type)
        except pa.ArrowException as error:
            raise DataError(
                f"column {field.name!r} of the new items must be of the run's type {field.type}, got "
                f"{day[field.name].type} ({error}); convert it"
            ) from error
    unread = tuple(name for name in day.column_names if name not in old.column_names)
    return pa.table(columns, schema=old.schema), unread


def _named_again(day: pa.Table, known: Vocabulary) -> int:
    """Return how many known items the day has more than an id of."""
    with_values = [name for name in day.column_names if name != schema.ITEM and day[name].null_count < len(day)]
    return int((known.rows_of(day[schema.ITEM], "item_id") != UNKNOWN).sum()) if with_values else 0


def _one_type(ids: Sequence[int | str]) -> list[int | str]:
    """Return ids as numbers if all are, else as text: a column has one type."""
    return list(ids) if len({type(value) for value in ids}) == 1 else [str(value) for value in ids]


def _number(report: object, name: str) -> int:
    value = report.get(name) if isinstance(report, dict) else None
    return value if isinstance(value, int) else 0
