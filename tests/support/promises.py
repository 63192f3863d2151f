"""What every Recommender must keep, whatever it is asked."""

from collections.abc import Sequence

import numpy as np
import pytest

from recsys.contracts import History, Recommender, Request, Steering, empty_history, requests_for
from recsys.core.errors import CallError


def assert_promises(
    model: object, asked: Sequence[History], *, num_items: int, n: int, keep_seen: bool, ineligible: set[int] | None
) -> None:
    """Ask once and check that slates are full, distinct, allowed, unseen and in order."""
    eligible = None if ineligible is None else ~np.isin(np.arange(num_items), list(ineligible))
    assert isinstance(model, Recommender)
    slates = model.recommend(requests_for(asked, n=n, keep_seen=keep_seen, eligible_N=eligible))
    assert len(slates) == len(asked)
    with pytest.raises(CallError, match="cannot steer"):
        model.recommend([Request(history=empty_history(), steering=Steering(require=frozenset({(0, 0)})))])
    for slate, one in zip(slates, asked, strict=True):
        allowed = set(range(num_items)) - (ineligible or set()) - (set() if keep_seen else set(one.items.tolist()))
        got = slate.items.tolist()
        assert len(set(got)) == len(got) == min(n, len(allowed))
        assert set(got) <= allowed
        assert (np.diff(slate.scores) <= 0).all()
