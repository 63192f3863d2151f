"""Impressions as arrays: what each request showed, what came of it, and with which probability it was shown.

Axes: B logged request, S place in the slate, E row of the impressions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, Float64Array, IntArray
from recsys.data import schema
from recsys.data.columns import codes_of
from recsys.data.vocabulary import Vocabulary

EMPTY = -1
"""Stands for a place that a slate does not have."""


@dataclass(frozen=True, kw_only=True)
class LoggedRequests:
    """Requests that one policy answered.

    Items that the catalogue lacks have the number of the catalogue's items.

    Shape:
        items_BS: (requests, places), EMPTY past a slate's end. rewards_BS: (requests, places), 0 there.
        propensities_BS: (requests, places) probability of the item in its place given those above it, 1 past the end.
        users_B: (requests,) row of the user, EMPTY where it is unknown. groups_B: (requests,) whose requests depend on
        each other. times_B: (requests,) unix seconds.
    """

    policy: str
    items_BS: IntArray
    rewards_BS: Float64Array
    propensities_BS: Float64Array
    users_B: IntArray
    groups_B: IntArray
    times_B: IntArray

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.times_B)

    @property
    def first_places(self) -> "LoggedRequests":
        """The same requests cut to their first place."""
        return self._taken(np.ones(len(self), np.bool_), places=1)

    def since(self, moment: int) -> "LoggedRequests":
        """Return the requests at or after a moment."""
        return self._taken(self.times_B >= moment, places=self.items_BS.shape[1])

    def _taken(self, kept_B: BoolArray, *, places: int) -> "LoggedRequests":
        return LoggedRequests(
            policy=self.policy,
            items_BS=self.items_BS[kept_B, :places],
            rewards_BS=self.rewards_BS[kept_B, :places],
            propensities_BS=self.propensities_BS[kept_B, :places],
            users_B=self.users_B[kept_B],
            groups_B=self.groups_B[kept_B],
            times_B=self.times_B[kept_B],
        )


def has_propensities(impressions: pa.Table | None) -> bool:
    """Return whether some impressions say with which probability their item was shown."""
    if impressions is None or schema.PROPENSITY not in impressions.column_names:
        return False
    return impressions[schema.PROPENSITY].null_count < impressions.num_rows


def logged_requests(impressions: pa.Table, items: Vocabulary, users: Vocabulary) -> Iterator[LoggedRequests]:
    """Yield the requests of each logging policy; requests with a propensity missing are left out."""
    request_E = codes_of(impressions[schema.REQUEST])
    whole_E = pc.is_valid(impressions[schema.PROPENSITY]).to_numpy().astype(np.bool_)
    broken = np.unique(request_E[~whole_E])
    kept_E = ~np.isin(request_E, broken)
    policy_E = np.array(
        [str(name) if name is not None else "log" for name in impressions[schema.POLICY].to_pylist()]
        if schema.POLICY in impressions.column_names
        else ["log"] * impressions.num_rows
    )
    for policy in np.unique(policy_E[kept_E]).tolist():
        part = impressions.filter(pa.array(kept_E & (policy_E == policy)))
        yield _requests(part, items, users, policy=policy)


def _requests(part: pa.Table, items: Vocabulary, users: Vocabulary, *, policy: str) -> LoggedRequests:
    request_E = codes_of(part[schema.REQUEST])
    order_E = np.lexsort((part[schema.POSITION].to_numpy(), request_E))
    request_E = request_E[order_E]
    first_E = np.ones(len(request_E), np.bool_)
    first_E[1:] = request_E[1:] != request_E[:-1]
    row_E = np.cumsum(first_E) - 1
    place_E = np.arange(len(request_E)) - np.flatnonzero(first_E)[row_E]
    shape = (int(row_E[-1]) + 1, int(place_E.max()) + 1)
    items_BS = np.full(shape, EMPTY, np.int64)
    rewards_BS, propensities_BS = np.zeros(shape), np.ones(shape)
    items_E = items.rows_of(part[schema.ITEM], schema.ITEM)
    items_BS[row_E, place_E] = np.where(items_E < 0, len(items), items_E)[order_E]
    rewards_BS[row_E, place_E] = part[schema.REWARD].to_numpy()[order_E]
    propensities_BS[row_E, place_E] = part[schema.PROPENSITY].to_numpy()[order_E]
    groups_E = codes_of(part[schema.USER])
    return LoggedRequests(
        policy=policy,
        items_BS=items_BS,
        rewards_BS=rewards_BS,
        propensities_BS=propensities_BS,
        users_B=users.rows_of(part[schema.USER], schema.USER)[order_E][first_E],
        groups_B=groups_E[order_E][first_E],
        times_B=part[schema.TIMESTAMP].to_numpy().astype(np.int64)[order_E][first_E],
    )
