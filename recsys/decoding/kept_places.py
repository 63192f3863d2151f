"""Places of a slate that are kept for some items, such as those that no model saw chosen in training.

Of ``n`` places, ``floor(share * n)`` are kept, for every ``n``: place ``i`` is kept where ``floor(share * i)`` exceeds
``floor(share * (i - 1))``, which is as late as the share of every shorter slate allows. With a share of .2 these are
the places 5, 10, 15, .... So the order of all items is one order, whatever length is asked for, and an item's rank is
its place in any slate. Evaluation asks for one item more than its longest cut-off and cuts at five and at ten: both
have the share of a slate of that length.

Axes: S slate position, V kept-for item.
"""

from dataclasses import dataclass, replace

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.decoding.evidence import RankedItems, best_items

ROUNDING = 1e-9
"""What is added before rounding down, so that .29 of 100 places are 29, which floating point makes 28.999999999999996.
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeptPlaces:
    """Which items places are kept for, and the share of places.

    Shape:
        item_V: (items that places are kept for,).
        added_BV: (rows, items that places are kept for) what their scores get more where they are ranked among
            themselves; None adds nothing.
    """

    item_V: IntArray
    share: float
    added_BV: FloatArray | None = None

    def others(self, shape: tuple[int, ...], eligible_BN: BoolArray | None) -> BoolArray:
        """Return which items are eligible and have no kept places, (rows, items).

        Shape:
            eligible_BN: (rows, items); None where all are.
        """
        others_BN = np.ones(shape, np.bool_) if eligible_BN is None else eligible_BN.copy()
        others_BN[:, self.item_V] = False
        return others_BN

    def rows(self, part: slice) -> "KeptPlaces":
        """Return the same for some of the rows."""
        return self if self.added_BV is None else replace(self, added_BV=self.added_BV[part])

    def ranked(self, rank_N: FloatArray, eligible_N: BoolArray | None, *, row: int, n: int) -> RankedItems:
        """Return the best eligible ones of a row, no paths known.

        Shape:
            rank_N, eligible_N: (items,) the row's scores, and what is eligible; None where all are.
        """
        score_V = rank_N[self.item_V] if self.added_BV is None else rank_N[self.item_V] + self.added_BV[row]
        eligible_V = None if eligible_N is None else eligible_N[self.item_V]
        best_S = best_items(score_V, np.empty(0, np.int64), eligible_V, n=n)
        return RankedItems(item_S=self.item_V[best_S], score_S=score_V[best_S], reached_S=np.full(len(best_S), -1))


def kept_places(share: float, n: int) -> BoolArray:
    """Return which of the first ``n`` places are kept, (places,)."""
    kept_S1 = np.floor(share * np.arange(n + 1) + ROUNDING)
    return np.asarray(np.diff(kept_S1) > 0)


def fill_places(others: RankedItems, kept_for: RankedItems, *, share: float, n: int) -> RankedItems:
    """Return a slate of two rankings: one has the kept places and no other, one has the rest.

    Where one of them has run out, the other fills its places.

    Args:
        others: the ranking of all other items, ``n`` of them or all that are eligible.
        kept_for: the ranking of the items that places are kept for, likewise.
        share: the share of the places that is kept, from 0 to 1.
        n: how long the slate is; shorter where both run out.
    """
    kept_S = kept_places(share, n)
    keys = [_places(~kept_S, len(others.item_S)), _places(kept_S, len(kept_for.item_S))]
    order_S = np.argsort(np.concatenate(keys), kind="stable")[:n]
    own_S = np.concatenate([others.score_S, kept_for.score_S]).astype(np.float32)[order_S]
    return RankedItems(
        item_S=np.concatenate([others.item_S, kept_for.item_S])[order_S],
        score_S=_falling(own_S, order_S >= len(others.item_S), more=len(others.item_S)),
        reached_S=np.concatenate([others.reached_S, kept_for.reached_S])[order_S],
    )


def _places(free_S: BoolArray, count: int) -> IntArray:
    """Return the places of a ranking's items: the free ones, and behind the slate when there are no more, (items,)."""
    free = np.flatnonzero(free_S)[:count]
    return np.concatenate([free, len(free_S) + np.arange(count - len(free))])


def _falling(own_S: FloatArray, kept_for_S: BoolArray, *, more: int) -> FloatArray:
    """Return scores of a slate that fall where two kinds of items meet, so that they say the order of the slate.

    An item in a kept place has the next lower number to the score of the place before it, as long as others are to
    come. Every other item has its own score; where that would not fall, it is lowered with all that follow of its kind.
    Equal scores side by side stay equal, and none of one kind equals one of the other.

    Shape:
        own_S: (slate,) the scores in the two rankings. kept_for_S: (slate,) bool.

    Args:
        own_S: see above.
        kept_for_S: see above.
        more: how many of the others there are, in the slate or behind it.
    """
    score_S, edges = own_S.copy(), np.flatnonzero(np.diff(kept_for_S)) + 1
    lowered, placed, before = [np.float32(0), np.float32(0)], 0, np.float32(np.inf)
    for part_S, kind_S in zip(np.split(score_S, edges), np.split(kept_for_S, edges), strict=True):
        if not len(part_S):
            continue
        kept_for, below = int(kind_S[0]), np.nextafter(before, np.float32(-np.inf))
        if kept_for and 0 < placed < more:
            for place in range(len(part_S)):
                part_S[place], below = below, np.nextafter(below, np.float32(-np.inf))
        else:
            lowered[kept_for] = max(lowered[kept_for], part_S[0] - below)
            part_S[:] = np.minimum(part_S - lowered[kept_for], below)
        placed += 0 if kept_for else len(part_S)
        before = part_S[-1]
    return score_S
