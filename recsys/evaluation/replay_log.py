"""The log to replay in the numbers of a run: the run's own events and those of another log, one history per user.

Axes: U user, E event, N item.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.core.arrays import BoolArray, IntArray
from recsys.data import schema
from recsys.data.columns import codes_of
from recsys.data.events import EventLog
from recsys.data.prepare import Prepared
from recsys.data.splits import held_out_events, protocol, time_unit
from recsys.data.table import Dataset
from recsys.data.vocabulary import UNKNOWN, Vocabulary

CUT_QUANTILE = 0.9


@dataclass(frozen=True, kw_only=True)
class ReplayLog:
    """Events in the numbers of a run, and which of them are targets.

    An item that the catalogue lacks has the number ``log.num_items``: it can be a target, which is a miss of every
    recommender, and is left out of histories.

    Shape:
        target_E: (events,) True where the event is a target.
        batch_E: (events,) number of the event's batch; a batch is one day or one second and cannot see itself.
    """

    log: EventLog
    target_E: BoolArray
    batch_E: IntArray
    start: int
    """The batch from which on events are targets."""
    split: str
    trained_until: int | None
    """Seconds before which all training events lie; None where training has no such end (leave-one-out)."""
    counts: Mapping[str, int]


def own_log(prepared: Prepared) -> ReplayLog:
    """Return a run's own log; targets are its held-out events, without a global cut only those of the newest tenth."""
    log = prepared.log
    batch_E = _batches(log)
    start = _own_start(log, batch_E)
    target_E = held_out_events(log) & (batch_E >= start)
    counts = {"events": len(batch_E), "known to training or too early": int((~target_E).sum())}
    return _made(log, target_E, batch_E, start=start, counts=counts)


def joined_log(prepared: Prepared, dataset: Dataset) -> ReplayLog:
    """Return a run's events and those of another log together; targets are those of the log that are not in training.

    Users and items are matched by their ids. An event that both have counts once. With a global cut only events from
    the test's begin on are targets.
    """
    own, rows = prepared.log, dataset.interactions
    items_V = Vocabulary(prepared.items[schema.ITEM].to_pylist()).rows_of(rows[schema.ITEM], "item_id")
    users_V = prepared.users.rows_of(rows[schema.USER], "user_id")
    unknown_items_V, unknown_users_V = items_V == UNKNOWN, users_V == UNKNOWN
    items_V = np.where(unknown_items_V, own.num_items, items_V)
    _, strangers_V = np.unique(codes_of(rows[schema.USER])[unknown_users_V], return_inverse=True)
    users_V = users_V.copy()
    users_V[unknown_users_V] = own.num_users + strangers_V
    times_V = rows[schema.TIMESTAMP].to_numpy().astype(np.int64)
    own_users_E = np.repeat(np.arange(own.num_users), own.lengths_U)
    own_E = _keys(own_users_E, own.items_E, own.timestamps_E)
    log_V = _keys(users_V, items_V, times_V)
    new_V = ~np.isin(log_V, own_E)
    also_E = np.isin(own_E, log_V)
    users_E = np.concatenate([own_users_E, users_V[new_V]])
    items_E = np.concatenate([own.items_E, items_V[new_V]])
    times_E = np.concatenate([own.timestamps_E, times_V[new_V]])
    position_V = rows[schema.POSITION].to_numpy().astype(np.int64)[new_V]
    order_E = np.concatenate([np.arange(len(own.items_E)), len(own.items_E) + position_V])
    by_E = np.lexsort((order_E, times_E, users_E))
    target_E = np.concatenate([held_out_events(own) & also_E, np.ones(int(new_V.sum()), np.bool_)])[by_E]
    users = own.num_users + (int(strangers_V.max()) + 1 if len(strangers_V) else 0)
    log = EventLog(
        offsets_U1=np.concatenate([[0], np.cumsum(np.bincount(users_E, minlength=users))]).astype(np.int64),
        items_E=items_E[by_E],
        timestamps_E=times_E[by_E],
        num_items=own.num_items,
        cuts=own.cuts,
    )
    batch_E = _batches(log)
    start = int(batch_E.min(initial=0))
    if log.cuts is not None:
        start = log.cuts.test // time_unit(log.timestamps_E)
    target_E &= batch_E >= start
    counts = {
        "events": rows.num_rows,
        "known to training or too early": rows.num_rows - int(target_E.sum()),
        "of unknown items": int(unknown_items_V.sum()),
        "unknown items": len(np.unique(codes_of(rows[schema.ITEM])[unknown_items_V])),
        "of unknown users": int(unknown_users_V.sum()),
        "unknown users": users - own.num_users,
    }
    return _made(log, target_E, batch_E, start=start, counts=counts)


def _own_start(log: EventLog, batch_E: IntArray) -> int:
    if log.cuts is not None:
        return int(log.cuts.test // time_unit(log.timestamps_E))
    return int(np.quantile(batch_E, CUT_QUANTILE, method="lower")) if len(batch_E) else 0


def unanswerable(replayed: ReplayLog) -> str:
    """Return why a log cannot be replayed in time order, in words; empty where it can."""
    batches = len(np.unique(replayed.batch_E))
    if batches < 2:
        return (
            f"a log to replay must span at least two batches, got {len(replayed.batch_E)} events in {batches}; without "
            "earlier events no user has a history, so give a log with times that differ, or use `recsys evaluate`"
        )
    if not replayed.target_E.any():
        return (
            f"a log to replay must hold events that training did not see, got {dict(replayed.counts)}; give a later log"
        )
    return ""


def _made(log: EventLog, target_E: BoolArray, batch_E: IntArray, *, start: int, counts: Mapping[str, int]) -> ReplayLog:
    return ReplayLog(
        log=log,
        target_E=target_E,
        batch_E=batch_E,
        start=start,
        split=protocol(log),
        trained_until=None if log.cuts is None else log.cuts.validation,
        counts=counts,
    )


def _batches(log: EventLog) -> IntArray:
    return log.timestamps_E // time_unit(log.timestamps_E)


def _keys(users_E: IntArray, items_E: IntArray, times_E: IntArray) -> NDArray[np.void]:
    """Return one value per event that is equal where user, item and time are; its type sorts, nothing more."""
    keys = np.ascontiguousarray(np.stack([users_E, items_E, times_E], axis=1).astype(np.int64))
    return keys.view(np.dtype((np.void, keys.itemsize * 3))).reshape(-1)
