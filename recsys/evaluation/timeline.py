"""The target events of a replay: held-out events in time order, each with what its user did before the event's batch.

Axes: E event of the log, H target event.
"""

from dataclasses import dataclass

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import DataError
from recsys.core.seeds import rng_for
from recsys.data.events import EventLog
from recsys.evaluation.replay_log import ReplayLog


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The target events, in time order.

    Shape:
        events_H, users_H: (targets,) place in the log and user.
        begins_H, ends_H: (targets,) begin and end of the history in the log: before the user's events of the batch.
        batch_H: (targets,) batch number, never decreasing.
        new_H: (targets,) True where the user has no event before the replay begins.
    """

    events_H: IntArray
    users_H: IntArray
    begins_H: IntArray
    ends_H: IntArray
    batch_H: IntArray
    new_H: BoolArray

    def __len__(self) -> int:
        """Return the number of target events."""
        return len(self.events_H)


def timeline(replayed: ReplayLog, *, max_events: int | None, seed: int) -> Timeline:
    """Return the target events in time order, a seeded sample of ``max_events`` of them if there are more."""
    log, batch_E = replayed.log, replayed.batch_E
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    opens_E = np.ones(len(batch_E), np.bool_)
    opens_E[1:] = (np.diff(batch_E) != 0) | (np.diff(users_E) != 0)
    starts_E = np.maximum.accumulate(np.where(opens_E, np.arange(len(batch_E)), 0))
    events_H = np.flatnonzero(replayed.target_E)
    if max_events is not None and len(events_H) > max_events:
        events_H = np.sort(rng_for(seed, "replay-events").choice(events_H, max_events, replace=False))
    events_H = events_H[np.argsort(log.timestamps_E[events_H], kind="stable")]
    users_H = users_E[events_H]
    begins_H = log.offsets_U1[users_H]
    return Timeline(
        events_H=events_H,
        users_H=users_H,
        begins_H=begins_H,
        ends_H=starts_E[events_H],
        batch_H=batch_E[events_H],
        new_H=batch_E[begins_H] >= replayed.start,
    )


def check_no_future(line: Timeline, replayed: ReplayLog) -> None:
    """Raise unless every history ends before its event's batch and, with a global cut, training before all of them.

    Raises:
        DataError: says how many events' histories or training reach into their own time or later.
    """
    ends_H = line.ends_H - 1
    some_H = line.ends_H > line.begins_H
    late_H = some_H & (replayed.batch_E[ends_H] >= line.batch_H)
    if late_H.any():
        raise DataError(
            f"histories must end before their target events, got {int(late_H.sum())} of {len(line)} that reach into "
            "them; replay a log sorted by user and time"
        )
    if replayed.trained_until is None:
        return
    times_H = replayed.log.timestamps_E[line.events_H]
    if (leaked := int((times_H < replayed.trained_until).sum())) > 0:
        raise DataError(
            f"training must end before the target events, got training events up to {replayed.trained_until} and "
            f"{leaked} target events before that; replay later events or train on earlier ones"
        )


def histories(log: EventLog, line: Timeline, places: IntArray) -> list[History]:
    """Return the histories of some target events; items that the catalogue lacks are left out."""
    found = []
    for begin, end in zip(line.begins_H[places].tolist(), line.ends_H[places].tolist(), strict=True):
        items, times = log.items_E[begin:end], log.timestamps_E[begin:end]
        if (items >= log.num_items).any():
            items, times = items[items < log.num_items], times[items < log.num_items]
        found.append(History(items=items, timestamps=times))
    return found


def distinct_requests(line: Timeline) -> tuple[IntArray, IntArray]:
    """Return the target events whose request is a new one, in time order, and the number of every event's request.

    Events of one user in one batch have one history, and so have all events without any: they are answered by one
    slate.

    Shape:
        results: (requests,) places in the timeline; (targets,) numbers of requests.
    """
    key_H = np.where(line.ends_H > line.begins_H, line.ends_H, -1)  # where a history ends says whose it is
    _, first, request_H = np.unique(key_H, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    number = np.empty(len(first), np.int64)
    number[order] = np.arange(len(first))
    return first[order], number[request_H]
