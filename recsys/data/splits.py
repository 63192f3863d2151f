"""Splits: each user's last two events held out (leave-one-out), or everything after a global cut in time.

Axes: U user, E event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import ConfigError
from recsys.core.seeds import rng_for
from recsys.data.events import EventLog, LogHistories, TimeCuts

Split = Literal["validation", "test"]
SplitKind = Literal["leave-one-out", "time"]

HELD_OUT: dict[Split, int] = {"validation": 2, "test": 1}
"""How many of a user's last events are hidden from the history when this split is evaluated leave-one-out."""

MIN_EVENTS = 3
"""A user with fewer events has nothing to learn from once two are held out; such users only train."""

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Questions:
    """For each evaluated user a history and the item that came next."""

    users_U: IntArray
    histories: Sequence[History]
    targets_U: IntArray

    def sample(self, most: int, *, seed: int) -> "Questions":
        """Return at most so many questions drawn at random: the first users of a log are not like the others."""
        if len(self.targets_U) <= most:
            return self
        return self.take(np.sort(rng_for(seed, "questions").permutation(len(self.targets_U))[:most]))

    def by_length(self) -> "Questions":
        """Return the questions in order of the lengths of their histories, so that a batch has little padding."""
        return self.take(length_order(self.histories))

    def take(self, places_U: IntArray) -> "Questions":
        """Return the questions with these numbers, in their order."""
        histories = [self.histories[place] for place in places_U.tolist()]
        return Questions(users_U=self.users_U[places_U], histories=histories, targets_U=self.targets_U[places_U])

    def lack_items(self, num_items: int) -> BoolArray:
        """Return which histories lack at least one item of the catalogue, (questions,)."""
        # a history with fewer events than there are items lacks some, which spares counting
        return np.array(
            [len(history.items) < num_items or len(np.unique(history.items)) < num_items for history in self.histories],
            dtype=np.bool_,
        )


def length_order(histories: Sequence[History]) -> IntArray:
    """Return the numbers of histories from the shortest to the longest, equals in the order they came."""
    return np.argsort([len(history.items) for history in histories], kind="stable")


def time_unit(timestamps_E: IntArray) -> int:
    """Return the seconds of the finest step of a log's clock that matters: a day where all times are whole days."""
    return SECONDS_PER_DAY if len(timestamps_E) and not (timestamps_E % SECONDS_PER_DAY).any() else 1


def time_cuts(timestamps_E: IntArray, *, test_share: float, validation_share: float) -> TimeCuts:
    """Return the cuts behind which the newest shares of the events lie; events of one day are never divided by a cut.

    Raises:
        ConfigError: training, validation or test would be empty.
    """
    unit = time_unit(timestamps_E)
    step_E = timestamps_E // unit
    shares = (1 - test_share - validation_share, 1 - test_share)
    validation, test = (int(np.quantile(step_E, share, method="lower")) * unit for share in shares)
    counts = {
        "training": int((timestamps_E < validation).sum()),
        "validation": int(((timestamps_E >= validation) & (timestamps_E < test)).sum()),
        "test": int((timestamps_E >= test).sum()),
    }
    if not all(counts.values()):
        raise ConfigError(
            f"data.split = 'time' must leave events in training, validation and test, got {counts} from a log of "
            f"{len(np.unique(step_E)):,} different {'days' if unit > 1 else 'times'}; use data.split = "
            "'leave-one-out', or other shares"
        )
    return TimeCuts(validation=validation, test=test)


def protocol(log: EventLog) -> str:
    """Return in words how the log is divided."""
    if log.cuts is None:
        return "leave-one-out"
    return f"global time cut at {datetime.fromtimestamp(log.cuts.test, UTC):%Y-%m-%d %H:%M} UTC"


def training_log(log: EventLog) -> EventLog:
    """Return the part of the log that every stage may learn from.

    All but each evaluated user's last two events; with a global cut, all before the validation's begin.
    """
    if log.cuts is not None:
        return log.first(_before(log, log.cuts.validation))
    keep_U = np.where(log.lengths_U >= MIN_EVENTS, log.lengths_U - 2, log.lengths_U)
    return log.first(keep_U)


def held_out_events(log: EventLog) -> BoolArray:
    """Return which events nothing was learned or chosen from, shape (events,).

    Evaluated users' last two; with a global cut, those from the test's begin on.
    """
    if log.cuts is not None:
        return np.asarray(log.timestamps_E >= log.cuts.test)
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    from_end_E = log.offsets_U1[users_E + 1] - np.arange(len(log.items_E))
    return np.asarray((from_end_E <= 2) & (log.lengths_U[users_E] >= MIN_EVENTS))


def questions(log: EventLog, split: Split) -> Questions:
    """Return the evaluated users of a split, their histories before the target, and the targets.

    With a global cut these are the users with events on both sides of it, whose target is the first item after it.
    """
    users_U, event_U = target_events(log, split)
    histories = LogHistories(log=log, users_U=users_U, lengths_U=event_U - log.offsets_U1[users_U])
    return Questions(users_U=users_U, histories=histories, targets_U=log.items_E[event_U])


def target_events(log: EventLog, split: Split) -> tuple[IntArray, IntArray]:
    """Return the evaluated users of a split, and the place in the log of each one's target event."""
    if log.cuts is None:
        users_U = np.flatnonzero(log.lengths_U >= MIN_EVENTS)
        return users_U, log.offsets_U1[users_U + 1] - HELD_OUT[split]
    before_U = _before(log, log.cuts.test if split == "test" else log.cuts.validation)
    until_U = log.lengths_U if split == "test" else _before(log, log.cuts.test)
    users_U = np.flatnonzero((before_U > 0) & (until_U > before_U))
    return users_U, log.offsets_U1[users_U] + before_U[users_U]


def _before(log: EventLog, moment: int) -> IntArray:
    """Return how many events of each user lie before a moment, shape (users,)."""
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    return np.bincount(users_E[log.timestamps_E < moment], minlength=log.num_users).astype(np.int64)
