"""How histories are cut into windows to train on, without a Python loop over users, and how windows are padded.

Axes: B batch row, T time, U user, E event, W window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.core.arrays import IntArray
from recsys.data.events import EventLog


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A log cut into windows of inputs and one more target; every event but a user's first is a target once.

    Shape:
        starts_W, lengths_W: (windows,) the first event of each window, and how many it has.
    """

    log: EventLog
    starts_W: IntArray
    lengths_W: IntArray

    @classmethod
    def of(cls, log: EventLog, max_inputs: int) -> "Windows":
        """Cut each history from its end."""
        starts_W, lengths_W = cut_from_end(log, max_inputs)
        return cls(log=log, starts_W=starts_W, lengths_W=lengths_W)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.starts_W)

    def padded(self, group: IntArray) -> tuple[Tensor, Tensor]:
        """Return the items of some windows as one matrix, padded on the right with item 0, and their lengths."""
        items_BT = window_events(self.log.items_E, self.starts_W[group], self.lengths_W[group])
        return torch.from_numpy(items_BT), torch.from_numpy(self.lengths_W[group])


def cut_from_end(log: EventLog, max_inputs: int, *, single: bool = False) -> tuple[IntArray, IntArray]:
    """Return the starts and lengths of windows of at most ``max_inputs`` inputs and one more target.

    Each history is cut from its end, so its first window alone may be shorter; neighbours share one event. A history of
    one event has no window, or with ``single`` one of that event.
    """
    lengths_U = log.lengths_U
    count_U = -((1 - lengths_U) // max_inputs) * (lengths_U > 1) + (single & (lengths_U == 1))
    first_U = log.offsets_U1[:-1]
    user_W = np.repeat(np.arange(log.num_users), count_U)
    place_W = np.arange(len(user_W)) - np.repeat(np.cumsum(count_U) - count_U, count_U)
    end_W = log.offsets_U1[1:][user_W] - place_W * max_inputs
    start_W = np.maximum(first_U[user_W], end_W - max_inputs - 1)
    return start_W, end_W - start_W


def window_events(values_E: IntArray, starts_B: IntArray, lengths_B: IntArray) -> IntArray:
    """Return a column of a log in some windows, padded on the right with 0.

    Shape:
        values_E: (events,).
        result: (windows, longest).
    """
    steps_T = np.arange(lengths_B.max(initial=0))
    inside_BT = steps_T < lengths_B[:, None]
    return np.where(inside_BT, values_E[np.where(inside_BT, starts_B[:, None] + steps_T, 0)], 0)


def pad_rows(rows: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
    """Return rows of different lengths as one matrix, padded on the right with 0, and their lengths."""
    lengths_B = np.fromiter(map(len, rows), np.int64, len(rows))
    padded_BT = np.zeros((len(rows), lengths_B.max(initial=0)), dtype=np.int64)
    if len(rows):
        padded_BT[np.arange(padded_BT.shape[1]) < lengths_B[:, None]] = np.concatenate(rows)
    return padded_BT, lengths_B


def pad(rows: Sequence[IntArray]) -> tuple[Tensor, Tensor]:
    """Return :func:`pad_rows` as tensors."""
    padded_BT, lengths_B = pad_rows(rows)
    return torch.from_numpy(padded_BT), torch.from_numpy(lengths_B)
