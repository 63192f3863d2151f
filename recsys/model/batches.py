"""Training batches: windows of histories, batched by length to keep padding small.

Axes: B batch row, T time, W window of a history.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.workers import ALONE, Workers
from recsys.data.events import EventLog
from recsys.sequence.windows import pad_rows


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows of one length bucket; ``lengths_B`` counts their real items, the rest of a row is padding.

    ``fold`` is the fold of users that a batch comes from; ``closed_B`` (batch,) marks windows that end with their
    user's last event; ``weight`` is the part of the whole batch's items that a worker's share of it has.
    """

    items_BT: IntArray
    timestamps_BT: IntArray
    lengths_B: IntArray
    closed_B: BoolArray
    fold: int = 0
    weight: float = 1.0


def cut_windows(log: EventLog, max_length: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Cut every user's events into windows; a long user's first window has a random length, drawn anew each epoch."""
    lengths_U = log.lengths_U
    long_U = lengths_U > max_length
    first_U = lengths_U.copy()
    first_U[long_U] = rng.integers(1, max_length + 1, size=int(long_U.sum()))
    count_U = np.where(lengths_U > 0, 1 - (first_U - lengths_U) // max_length, 0)
    user_W = np.repeat(np.arange(log.num_users), count_U)
    place_W = np.arange(len(user_W)) - np.repeat(np.cumsum(count_U) - count_U, count_U)
    start_W = np.maximum(0, first_U[user_W] + (place_W - 1) * max_length)
    end_W = np.minimum(lengths_U[user_W], first_U[user_W] + place_W * max_length)
    return log.offsets_U1[user_W] + start_W, end_W - start_W


@dataclass(frozen=True, kw_only=True)
class EpochBatches(Sequence[Batch]):
    """The batches of an epoch, each packed when it is taken, so that memory does not grow with their number.

    Shape:
        starts_W, lengths_W: (windows,) the first event of each window, and how many it has.
        groups: the windows of each batch.
        draws_before: (batches,) how many random numbers all batches before take to reorder ties, from ``state`` on.
    """

    log: EventLog
    starts_W: IntArray
    lengths_W: IntArray
    groups: list[IntArray]
    shuffle_ties: float
    draws_before: IntArray
    state: Any
    workers: Workers = ALONE

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.groups)

    @overload
    def __getitem__(self, place: int) -> Batch: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Batch]: ...
    def __getitem__(self, place: int | slice) -> Batch | Sequence[Batch]:
        """Return a batch, or a worker's share of it, the same whichever were taken before."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        group = self.groups[place]
        mine = self.workers.share(group, self.lengths_W[group])
        batch = replace(pack(self.log, self.starts_W[mine.rows], self.lengths_W[mine.rows]), weight=mine.weight)
        if not self.shuffle_ties:
            return batch
        bits = np.random.PCG64()
        bits.state = self.state
        return reorder_ties(batch, self.shuffle_ties, np.random.Generator(bits.advance(int(self.draws_before[place]))))


def epoch_batches(
    log: EventLog,
    *,
    max_length: int,
    positions: int,
    rng: np.random.Generator,
    shuffle_ties: float = 0.0,
    workers: Workers = ALONE,
) -> EpochBatches:
    """Return an epoch's batches of about ``positions`` items, in random order, rows of similar length together.

    In a share ``shuffle_ties`` of the rows, events with equal timestamps are put in a random order. ``rng`` is of
    NumPy's default kind, whose stream can be entered anywhere. Of several workers that draw the same, each gets its
    part of every batch.
    """
    starts_W, lengths_W = cut_windows(log, max_length, rng)
    order_W = np.lexsort((rng.random(len(starts_W)), lengths_W))
    groups = []
    first = 0
    while first < len(order_W):
        rows = max(1, positions // int(lengths_W[order_W[first]]))
        while rows > 1 and rows * lengths_W[order_W[min(first + rows, len(order_W)) - 1]] > positions * 1.2:
            rows = rows * 3 // 4
        groups.append(order_W[first : first + rows])
        first += rows
    groups = [groups[group] for group in rng.permutation(len(groups))]
    # one number an event's place and one a row, see reorder_ties
    draws = np.fromiter((len(group) * (lengths_W[group].max() + 1) for group in groups), np.int64, len(groups))
    return EpochBatches(
        log=log,
        starts_W=starts_W,
        lengths_W=lengths_W,
        groups=groups,
        shuffle_ties=shuffle_ties,
        draws_before=np.cumsum(draws) - draws,
        state=rng.bit_generator.state,
        workers=workers,
    )


def pack(log: EventLog, starts_B: IntArray, lengths_B: IntArray) -> Batch:
    """Return windows of a log as one batch, padded on the right with whatever comes next in the log."""
    steps_T = np.arange(lengths_B.max())
    index_BT = np.minimum(starts_B[:, None] + steps_T, len(log.items_E) - 1)
    return Batch(
        items_BT=log.items_E[index_BT],
        timestamps_BT=log.timestamps_E[index_BT],
        lengths_B=lengths_B,
        closed_B=np.isin(starts_B + lengths_B, log.offsets_U1),
    )


def reorder_ties(batch: Batch, share: float, rng: np.random.Generator) -> Batch:
    """Reorder events of equal time in a share of the rows; padding stays where it is."""
    rows, time = batch.items_BT.shape
    steps_T = np.arange(time)
    drawn_BT = rng.random((rows, time))
    tie_BT = np.where(rng.random((rows, 1)) < share, drawn_BT, steps_T)
    padding_BT = steps_T >= batch.lengths_B[:, None]
    order_BT = np.lexsort((tie_BT, batch.timestamps_BT, padding_BT), axis=1)
    return replace(
        batch,
        items_BT=np.take_along_axis(batch.items_BT, order_BT, axis=1),
        timestamps_BT=np.take_along_axis(batch.timestamps_BT, order_BT, axis=1),
    )


def pad_histories(histories: Sequence[History], max_history: int) -> tuple[IntArray, IntArray, IntArray]:
    """Pad the latest events of histories on the right; returns items (B, T), timestamps (B, T), lengths (B,)."""
    recent = [history.last(max_history) for history in histories]
    items_BT, lengths_B = pad_rows([history.items for history in recent])
    timestamps_BT, _ = pad_rows([history.timestamps for history in recent])
    return items_BT, timestamps_BT, lengths_B
