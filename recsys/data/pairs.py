"""Pairs of items that the same user used one after the other.

Axes: N item, F feature, E event, P pair.
"""

from dataclasses import dataclass

import numpy as np

from recsys.core.arrays import FloatArray, IntArray
from recsys.data.events import EventLog


@dataclass(frozen=True, kw_only=True)
class HeldOutPairs:
    """Pairs of some users' items, and item vectors that were made without these users' events.

    Shape:
        vectors_NF: (items, features) one vector for each item of the catalogue.
        left_P, right_P: (pairs,) the earlier and the later item, two different ones.
    """

    vectors_NF: FloatArray
    left_P: IntArray
    right_P: IntArray


def following_pairs(log: EventLog, distance: int) -> tuple[IntArray, IntArray]:
    """Return the earlier and the later item of all pairs of different items at most so many events apart, (pairs,)."""
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for apart in range(1, distance + 1):
        first_P, second_P = log.items_E[:-apart], log.items_E[apart:]
        kept_P = (users_E[:-apart] == users_E[apart:]) & (first_P != second_P)
        left.append(first_P[kept_P])
        right.append(second_P[kept_P])
    return np.concatenate(left), np.concatenate(right)
