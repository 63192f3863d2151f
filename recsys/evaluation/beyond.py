"""Beyond-accuracy metrics of slates: popularity and diversity of their items, and which targets are cold or rare items.

Axes: N item, S place in a slate, U user, B slate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.data.events import EventLog

_SLATES_AT_ONCE = 2048

RARE_EVENTS = 4
"""An item of so many training events or fewer is rare, one without any too."""


@dataclass(frozen=True, kw_only=True)
class TrainingPart:
    """Counts and users of the training events, for beyond-accuracy metrics.

    Shape:
        counts_N: (items,) training events of each item.
        percentile_N: (items,) share of the catalogue with fewer events, ties at their middle: 0 rare, 1 popular.
        users_NU: sparse (items, users), rows of length one: who used an item.
    """

    counts_N: IntArray
    percentile_N: FloatArray
    users_NU: csr_array

    @classmethod
    def of(cls, log: EventLog) -> "TrainingPart":
        """Count a training log."""
        counts_N = log.counts_N
        ordered = np.sort(counts_N)
        low_N, high_N = np.searchsorted(ordered, counts_N), np.searchsorted(ordered, counts_N, side="right")
        users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
        shape = (log.num_items, log.num_users)
        users_NU = csr_array((np.ones(len(users_E)), (log.items_E, users_E)), shape=shape)
        users_NU.data[:] = 1.0
        lengths_N = np.sqrt(np.maximum(np.diff(users_NU.indptr), 1))
        users_NU.data /= np.repeat(lengths_N, np.diff(users_NU.indptr))
        percentile_N = ((low_N + high_N) / 2 / max(len(counts_N), 1)).astype(np.float32)
        return cls(counts_N=counts_N, percentile_N=percentile_N, users_NU=users_NU)

    @property
    def cold_N(self) -> BoolArray:
        """Which items no training event names, shape (items,)."""
        return self.counts_N == 0

    @property
    def rare_N(self) -> BoolArray:
        """Which items have at most :data:`RARE_EVENTS` training events, shape (items,)."""
        return self.counts_N <= RARE_EVENTS


def popularity(shown: Sequence[IntArray], part: TrainingPart) -> float:
    """Return the mean popularity percentile of recommended items: .5 is a random draw, 1 the most popular item only.

    ``shown`` are the items of each slate.
    """
    return float(part.percentile_N[np.concatenate(shown)].mean()) if sum(map(len, shown)) else 0.0


def diversity(shown: Sequence[IntArray], part: TrainingPart) -> float:
    """Return one minus the mean cosine, by the users they share, of two items of a slate, averaged over slates.

    ``shown`` are the items of each slate. Slates with fewer than two items are left out; none left gives 0.
    """
    shown = [items_S for items_S in shown if len(items_S) > 1]
    length_N = np.asarray(part.users_NU.power(2).sum(axis=1))  # squared: one, zero for items without events
    values = [np.empty(0)]
    for start in range(0, len(shown), _SLATES_AT_ONCE):
        chunk = shown[start : start + _SLATES_AT_ONCE]
        places_B = np.array([len(items_S) for items_S in chunk])
        items = np.concatenate(chunk)
        starts_B1 = np.concatenate([[0], np.cumsum(places_B)])
        in_slate_BN = csr_array((np.ones(len(items)), items, starts_B1), shape=(len(chunk), part.users_NU.shape[0]))
        # sum over pairs of cosines = (|sum of unit rows|^2 - sum of squared lengths) / 2
        sums_BU = in_slate_BN @ part.users_NU
        pairs_B = np.asarray(sums_BU.power(2).sum(axis=1)) - in_slate_BN @ length_N
        values.append(1.0 - pairs_B / (places_B * (places_B - 1)))
    return float(np.concatenate(values).mean()) if shown else 0.0


def cold_questions(targets_U: IntArray, part: TrainingPart) -> IntArray:
    """Return the questions whose answer no training event names, as indices."""
    return np.flatnonzero(part.cold_N[targets_U])


def rare_questions(targets_U: IntArray, part: TrainingPart) -> IntArray:
    """Return the questions whose answer is a rare item, as indices."""
    return np.flatnonzero(part.rare_N[targets_U])
