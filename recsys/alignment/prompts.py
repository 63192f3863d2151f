"""The prompts of alignment: histories inside the training log and the items that followed them there.

Axes: P prompt, H next item, E event.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.core.errors import DataError
from recsys.data.events import EventLog


@dataclass(frozen=True, kw_only=True)
class PromptTable:
    """Histories and the window of items after each.

    Shape:
        targets_PH: (prompts, window) the items at t+1..t+h, -1 where the training log of the user ends.
    """

    histories: Sequence[History]
    targets_PH: IntArray

    def __len__(self) -> int:
        return len(self.histories)


def draw_prompts(log: EventLog, *, count: int, window: int, rng: np.random.Generator) -> PromptTable:
    """Draw positions of a training log with an event before and one after, without repeats if it has enough.

    Args:
        log: the training log (``recsys.data.splits.training_log``); nothing outside it is read.
        count: how many prompts.
        window: how many next items (h).
        rng: where the draw comes from.
    """
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    next_E = np.flatnonzero(np.arange(len(users_E)) > log.offsets_U1[users_E])
    if not len(next_E):
        raise DataError("the training log must have a user with two events, got none; import more interactions")
    drawn_P = rng.choice(next_E, size=count, replace=len(next_E) < count)
    starts_P, ends_P = log.offsets_U1[users_E[drawn_P]], log.offsets_U1[users_E[drawn_P] + 1]
    at_PH = drawn_P[:, None] + np.arange(window)
    inside_PH = at_PH < ends_P[:, None]
    targets_PH = np.where(inside_PH, log.items_E[np.where(inside_PH, at_PH, 0)], -1).astype(np.int64)
    histories = [
        History(items=log.items_E[start:stop], timestamps=log.timestamps_E[start:stop])
        for start, stop in zip(starts_P, drawn_P, strict=True)
    ]
    return PromptTable(histories=histories, targets_PH=targets_PH)
