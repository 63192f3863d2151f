"""A random log in which some users have no event."""

import numpy as np

from recsys.data.events import EventLog, build_log

_ITEMS = 9


def random_log(seed: int, *, users: int, active: int, events: int) -> EventLog:
    """Return a log of so many users, of whom at most the first ``active`` have events."""
    rng = np.random.default_rng(seed)
    user_E = rng.choice(active, events)
    item_E, timestamp_E = rng.integers(_ITEMS, size=events), rng.integers(99, size=events)
    return build_log(user_E, item_E, timestamp_E, np.arange(events), num_users=users, num_items=_ITEMS)
