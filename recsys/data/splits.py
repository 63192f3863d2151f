"""Leave-one-out: a user's last event is the test, the one before it validation, the rest training.

Axes: U user (of those that can be evaluated).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.seeds import rng_for
from recsys.data.events import EventLog

Split = Literal["validation", "test"]

HELD_OUT: dict[Split, int] = {"validation": 2, "test": 1}
"""How many of a user's last events are hidden from the history when this split is evaluated."""

MIN_EVENTS = 3
"""A user with fewer events has nothing to learn from once two are held out; such users only train."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of a recommender: for each evaluated user a history and the item that came next."""

    users_U: IntArray
    histories: Sequence[History]
    targets_U: IntArray

    def sample(self, most: int, *, seed: int) -> "Questions":
        """Return at most so many questions drawn at random: the first users of a log are not like the others."""
        if len(self.targets_U) <= most:
            return self
        drawn = np.sort(rng_for(seed, "questions").permutation(len(self.targets_U))[:most])
        histories = [self.histories[place] for place in drawn.tolist()]
        return Questions(users_U=self.users_U[drawn], histories=histories, targets_U=self.targets_U[drawn])

    def with_new_items(self, num_items: int) -> "Questions":
        """Return the questions whose history lacks at least one item: for the others no item is left to rank."""
        open_U = np.array([len(np.unique(history.items)) < num_items for history in self.histories], dtype=np.bool_)
        if open_U.all():
            return self
        histories = [self.histories[place] for place in np.flatnonzero(open_U).tolist()]
        return Questions(users_U=self.users_U[open_U], histories=histories, targets_U=self.targets_U[open_U])


def training_log(log: EventLog) -> EventLog:
    """Return the part of the log that every stage may learn from: all but each evaluated user's last two events."""
    keep_U = np.where(log.lengths_U >= MIN_EVENTS, log.lengths_U - 2, log.lengths_U)
    return log.first(keep_U)


def held_out_events(log: EventLog) -> BoolArray:
    """Return which events training never sees, shape (events,): evaluated users' last two."""
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    from_end_E = log.offsets_U1[users_E + 1] - np.arange(len(log.items_E))
    return np.asarray((from_end_E <= 2) & (log.lengths_U[users_E] >= MIN_EVENTS))


def questions(log: EventLog, split: Split) -> Questions:
    """Return the evaluated users of a split, their histories before the target, and the targets."""
    hidden = HELD_OUT[split]
    users_U = np.flatnonzero(log.lengths_U >= MIN_EVENTS)
    histories = [log.history(int(user), drop_last=hidden) for user in users_U]
    return Questions(users_U=users_U, histories=histories, targets_U=log.items_E[log.offsets_U1[users_U + 1] - hidden])
