"""The kinds of events that a replay is split by: of users, of items, of transitions.

Axes: H target event, N item, E training event.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.core.arrays import BoolArray, IntArray
from recsys.data.events import EventLog

SHORT_HISTORY = 5
ACTIVE_HISTORY = 20
HEAD_SHARE = 0.5
MOST_CATEGORIES = 8


@dataclass(frozen=True, kw_only=True)
class TargetEvents:
    """What is known of each target event before it is ranked.

    Shape:
        users_H, targets_H: (targets,). lengths_H: (targets,) events in the history. last_H: (targets,) the history's
        last item, -1 where it is empty. new_H: (targets,) True where the user has no event before the replay begins.
    """

    users_H: IntArray
    targets_H: IntArray
    lengths_H: IntArray
    last_H: IntArray
    new_H: BoolArray


def slices(
    events: TargetEvents, *, training: EventLog, categories_N: Sequence[str | None] | None = None
) -> dict[str, BoolArray]:
    """Return which target events belong to each slice; slices overlap, empty ones are left out.

    Args:
        events: the target events.
        training: what the recommenders learned from.
        categories_N: the general category of each item; None splits by none.
    """
    counts_N = np.append(training.counts_N, 0)  # the last: items that the catalogue lacks
    known_H = events.targets_H < training.num_items
    head_N = head_items(training.counts_N)
    seen_H = _in_training(events, training)
    found: dict[str, BoolArray] = {
        "all": np.ones(len(events.users_H), np.bool_),
        "new users": events.new_H,
        "short history": events.lengths_H < SHORT_HISTORY,
        "active users": events.lengths_H >= ACTIVE_HISTORY,
        "new items": known_H & (counts_N[events.targets_H] == 0),
        "head items": np.append(head_N, False)[events.targets_H],
        "tail items": known_H & (counts_N[events.targets_H] > 0) & ~np.append(head_N, False)[events.targets_H],
        "unknown items": ~known_H,
        "transitions seen in training": seen_H,
        "transitions not seen in training": ~seen_H & (events.last_H >= 0),
    }
    if categories_N is not None:
        found |= _by_category(events.targets_H, categories_N)
    return {name: in_slice_H for name, in_slice_H in found.items() if in_slice_H.any()}


def head_items(counts_N: IntArray) -> BoolArray:
    """Return the most frequent items that together have half of the training events, shape (items,).

    Counts 5, 3, 1, 1 make the first item the head.
    """
    order_N = np.argsort(-counts_N, kind="stable")
    before_N = np.cumsum(counts_N[order_N]) - counts_N[order_N]
    head_N = np.zeros(len(counts_N), np.bool_)
    head_N[order_N] = (before_N < HEAD_SHARE * counts_N.sum()) & (counts_N[order_N] > 0)
    return head_N


def _in_training(events: TargetEvents, training: EventLog) -> BoolArray:
    """Return where some training user took the target right after the history's last item."""
    width = training.num_items + 1
    pairs_E = training.items_E[:-1] * width + training.items_E[1:]
    first_E = np.zeros(len(training.items_E), np.bool_)
    starts_U = training.offsets_U1[:-1]
    first_E[starts_U[starts_U < len(first_E)]] = True
    pairs_H = events.last_H * width + events.targets_H
    return np.isin(pairs_H, pairs_E[~first_E[1:]]) & (events.last_H >= 0)


def _by_category(targets_H: IntArray, categories_N: Sequence[str | None]) -> dict[str, BoolArray]:
    names_H = np.array([*(name or "" for name in categories_N), ""])[targets_H]
    names, counts = np.unique(names_H[names_H != ""], return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]
    return {f"category: {name}": names_H == name for name in largest.tolist()}
