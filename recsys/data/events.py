"""The event log of a run in memory: users' events in time order, as one flat array and offsets.

Axes: U user, E event, N item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import BoolArray, IntArray
from recsys.data.mapped import kept

EVENTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TimeCuts:
    """When the events of validation and of the test begin, in unix seconds, for all users alike."""

    validation: int
    test: int


@dataclass(frozen=True, kw_only=True)
class LogHistories(Sequence[History]):
    """The beginnings of some users' histories, each made when it is read: a million need no million objects.

    Shape:
        users_U, lengths_U: (histories,) whose they are, and how many events each has.
    """

    log: "EventLog"
    users_U: IntArray
    lengths_U: IntArray

    def __len__(self) -> int:
        """Return the number of histories."""
        return len(self.users_U)

    @overload
    def __getitem__(self, place: int) -> History: ...
    @overload
    def __getitem__(self, place: slice) -> "LogHistories": ...
    def __getitem__(self, place: int | slice) -> "History | LogHistories":
        """Return one history, or some of them."""
        if isinstance(place, slice):
            return LogHistories(log=self.log, users_U=self.users_U[place], lengths_U=self.lengths_U[place])
        start = self.log.offsets_U1[self.users_U[place]]
        events = slice(start, start + self.lengths_U[place])
        return History(items=self.log.items_E[events], timestamps=self.log.timestamps_E[events])

    def take(self, places: IntArray) -> "LogHistories":
        """Return the histories at some places."""
        return LogHistories(log=self.log, users_U=self.users_U[places], lengths_U=self.lengths_U[places])


@dataclass(frozen=True, kw_only=True)
class EventLog:
    """All events, grouped by user and in time order inside a user.

    Shape:
        offsets_U1: (users + 1,) start of each user's events; the last entry is the number of events.
        items_E: (events,) catalogue indices.
        timestamps_E: (events,) unix seconds.
    """

    offsets_U1: IntArray
    items_E: IntArray
    timestamps_E: IntArray
    num_items: int
    cuts: TimeCuts | None = None
    """Where a global time cut divides the log; None: the last events of each user are held out."""

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.offsets_U1) - 1

    @property
    def lengths_U(self) -> IntArray:
        """Number of events of each user."""
        return np.diff(self.offsets_U1)

    @property
    def counts_N(self) -> IntArray:
        """Number of events of each item."""
        return np.bincount(self.items_E, minlength=self.num_items)

    @property
    def distinct_before_E(self) -> IntArray:
        """Number of different items that the user of an event had before it, shape (events,)."""
        users_E = np.repeat(np.arange(self.num_users), self.lengths_U)
        new_E = self.new_E.astype(np.int64)
        before_E = np.cumsum(new_E) - new_E
        return before_E - before_E[self.offsets_U1[users_E]]

    @property
    def new_E(self) -> BoolArray:
        """Whether an event is its user's first with its item, shape (events,)."""
        new_E = np.zeros(len(self.items_E), dtype=np.bool_)
        starts = np.searchsorted(self.offsets_U1, np.arange(0, len(self.items_E), EVENTS_AT_ONCE))
        for first, stop in pairwise(np.unique([*starts.tolist(), self.num_users]).tolist()):  # users, in some pieces
            at, end = self.offsets_U1[first], self.offsets_U1[stop]
            users_E = np.repeat(np.arange(stop - first), self.lengths_U[first:stop])
            _, first_X = np.unique(users_E * self.num_items + self.items_E[at:end], return_index=True)
            new_E[at + first_X] = True
        return new_E

    def history(self, user: int, *, drop_last: int = 0) -> History:
        """Return a user's events without the last ``drop_last``."""
        start, stop = self.offsets_U1[user], self.offsets_U1[user + 1] - drop_last
        return History(items=self.items_E[start:stop], timestamps=self.timestamps_E[start:stop])

    def first(self, keep_U: IntArray) -> "EventLog":
        """Return the log with only the first ``keep_U[u]`` events of each user."""
        left_U = self.lengths_U - keep_U
        firsts_U = self.offsets_U1[:-1] + keep_U - (np.cumsum(left_U) - left_U)
        kept_E = np.ones(len(self.items_E), dtype=np.bool_)
        kept_E[np.repeat(firsts_U, left_U) + np.arange(left_U.sum())] = False
        return EventLog(
            offsets_U1=np.concatenate([[0], np.cumsum(keep_U)]).astype(np.int64),
            items_E=kept(self.items_E, kept_E),
            timestamps_E=kept(self.timestamps_E, kept_E),
            num_items=self.num_items,
        )


def log_in_order(
    user_E: IntArray, item_E: IntArray, timestamp_E: IntArray, *, num_users: int, num_items: int
) -> EventLog:
    """Return the log of events that are sorted by user and time, as a saved log's are; others are sorted first."""
    step_E = np.diff(user_E)
    if (step_E >= 0).all() and ((step_E > 0) | (np.diff(timestamp_E) >= 0)).all():
        counts_U = np.bincount(user_E, minlength=num_users)
        return EventLog(
            offsets_U1=np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int64),
            items_E=item_E,
            timestamps_E=timestamp_E,
            num_items=num_items,
        )
    order_E = np.arange(len(user_E))
    return build_log(user_E, item_E, timestamp_E, order_E, num_users=num_users, num_items=num_items)


def build_log(
    user_E: IntArray,
    item_E: IntArray,
    timestamp_E: IntArray,
    order_E: IntArray,
    *,
    num_users: int,
    num_items: int,
) -> EventLog:
    """Sort raw events by user, time and the given order among equal times, stably."""
    by_E = np.lexsort((order_E, timestamp_E, user_E))
    counts_U = np.bincount(user_E, minlength=num_users)
    return EventLog(
        offsets_U1=np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int64),
        items_E=item_E[by_E].astype(np.int64, copy=False),
        timestamps_E=timestamp_E[by_E].astype(np.int64, copy=False),
        num_items=num_items,
    )
