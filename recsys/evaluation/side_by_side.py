"""Two recommenders on the same histories: the overlap of their slates, and which items enter and leave.

Axes: B history, N item.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import History, Recommender, requests_for
from recsys.core.arrays import IntArray

MOST_ITEMS = 10
MOST_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One user's slate: what is new in it, what is gone."""

    user: int
    enters: tuple[int, ...]
    leaves: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What changes from one recommender to another.

    ``overlap`` is the mean share of a slate that both show. ``enters`` and ``leaves`` are the items that most slates
    gain and lose, with how many. ``examples`` are the users whose slates change most. ``shared`` is the share of each
    history's slate that both show.
    """

    histories: int
    overlap: float
    enters: tuple[tuple[int, int], ...]
    leaves: tuple[tuple[int, int], ...]
    examples: tuple[Changed, ...]
    shared: tuple[float, ...] = ()


def side_by_side(
    before: Recommender,
    after: Recommender,
    histories: Sequence[History],
    *,
    users: Sequence[int],
    num_items: int,
    n: int = 10,
) -> SideBySide:
    """Ask both for the same histories and compare their slates as sets.

    Args:
        before: the recommender in use.
        after: the one that would replace it.
        histories: what each user did.
        users: a number for each history, by which examples are named.
        num_items: size of the catalogue.
        n: length of the slates.
    """
    requests = requests_for(histories, n=n)
    olds, news = before.recommend(requests), after.recommend(requests)
    gained_N, lost_N = np.zeros(num_items, np.int64), np.zeros(num_items, np.int64)
    changed: list[Changed] = []
    shared: list[float] = []
    for user, old, new in zip(users, olds, news, strict=True):
        enters, leaves = np.setdiff1d(new.items, old.items), np.setdiff1d(old.items, new.items)
        gained_N[enters] += 1
        lost_N[leaves] += 1
        shared.append(1 - len(enters) / max(len(new.items), 1))
        changed.append(Changed(user=user, enters=_in_order(new.items, enters), leaves=_in_order(old.items, leaves)))
    changed.sort(key=lambda one: -len(one.enters))
    return SideBySide(
        histories=len(histories),
        overlap=float(np.mean(shared)) if shared else 1.0,
        enters=_most(gained_N),
        leaves=_most(lost_N),
        examples=tuple(one for one in changed[:MOST_EXAMPLES] if one.enters),
        shared=tuple(shared),
    )


def _in_order(slate_S: IntArray, chosen: IntArray) -> tuple[int, ...]:
    """Return the chosen items in the order of the slate."""
    return tuple(int(item) for item in slate_S if item in chosen)


def _most(counts_N: IntArray) -> tuple[tuple[int, int], ...]:
    """Return the items with the highest counts, and those."""
    order_N = np.argsort(-counts_N, kind="stable")[:MOST_ITEMS]
    return tuple((int(item), int(counts_N[item])) for item in order_N if counts_N[item])
