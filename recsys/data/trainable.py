"""Checks that a log is large enough to train and evaluate on; the first stage calls it."""

from typing import Final

import numpy as np

from recsys.core.errors import DataError
from recsys.data.events import EventLog
from recsys.data.splits import HELD_OUT, MIN_EVENTS, protocol, target_events, training_log

LONGEST_SLATE: Final = 10
"""Evaluation ranks so many items."""

FEW_USERS: Final = 100
"""With fewer evaluated users a figure moves by a percent and more when one user changes."""

MANY_REPEATS: Final = 0.2
"""From this share of targets on that the user has already, figures without seen items come with a note."""

_REMEDY = "import more events, or lower data.k_core, data.min_rating and data.min_weight"


def check_trainable(log: EventLog) -> tuple[str, ...]:
    """Refuse a log that is too small to train on; return warnings about one that is small.

    Raises:
        DataError: names the numbers that are too small and the remedy.
    """
    size = f"{len(log.items_E):,} events of {log.num_users:,} users on {log.num_items:,} items"
    if log.num_items <= LONGEST_SLATE:
        raise DataError(
            f"the catalogue must hold more than {LONGEST_SLATE} items, because lists of {LONGEST_SLATE} are evaluated, "
            f"got {log.num_items} ({size}); {_REMEDY}"
        )
    evaluated = min(len(target_events(log, split)[0]) for split in HELD_OUT)
    longest = int(log.lengths_U.max(initial=0))
    if not evaluated and log.cuts is not None:
        raise DataError(
            "at least one user must have events on both sides of the cut in time, in validation and in test, got none "
            f"({size}); use data.split = 'leave-one-out', or other shares"
        )
    if not evaluated:
        raise DataError(
            f"at least one user must have {MIN_EVENTS} events, of which the last two are held out, got none: "
            f"the longest history has {longest} ({size}); {_REMEDY}"
        )
    pairs = int(np.maximum(training_log(log).lengths_U - 1, 0).sum())
    if not pairs:
        raise DataError(
            f"at least one user must have two events in a row left for training ({protocol(log)}), got none: "
            f"the longest history has {longest} ({size}); {_REMEDY}"
        )
    notes = []
    if evaluated < FEW_USERS:
        notes.append(f"only {evaluated} users are evaluated: figures of so few say little ({size})")
    _, event_U = target_events(log, "test")
    again_U = ~log.new_E[event_U]
    if np.mean(again_U) > MANY_REPEATS:
        notes.append(
            f"{again_U.sum():,} of {len(again_U):,} evaluated users come back to an item they have: "
            "where seen items are removed these count as misses"
        )
    return tuple(notes)
