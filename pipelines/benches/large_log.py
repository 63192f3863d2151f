"""A made-up log of any size, written in pieces: items of nested categories, users who keep to a few of them.

Axes: U user, E event, N item.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.core.arrays import IntArray
from recsys.core.config import Config
from recsys.core.errors import CallError
from recsys.core.seeds import rng_for
from recsys.data import schema

ITEMS_A_CATEGORY = 400
CATEGORIES_A_USER = 3
BRANCHES = 25
STRAY = 0.2
"""Share of events on items of any category."""
SKEW = 3.0
"""How uneven items of a category are: an item's place is a uniform number to this power."""
PIECE_USERS = 100_000
START, SPAN = 1_700_000_000, 90 * 86_400
_WORDS = ("blue", "oak", "small", "wool", "steel", "garden", "soft", "round", "light", "classic", "green", "travel")


class MadeUpSize(Config):
    """How large a made-up log is."""

    users: int
    """Users, each with events."""
    events: int
    """Events in all, about; a user has a geometric number of them."""
    items: int
    """Items of the catalogue."""

    @classmethod
    def parse(cls, text: str) -> "MadeUpSize":
        """Read ``users,events,items``.

        Raises:
            CallError: the text is not three whole numbers, each at least ten and no user without an event.
        """
        parts = text.replace("_", "").split(",")
        if len(parts) == 3 and all(part.strip().isdigit() for part in parts):
            users, events, items = map(int, parts)
            if min(users, items) >= 10 and events >= users:
                return cls(users=users, events=events, items=items)
        raise CallError(
            f"--size must be three whole numbers of at least ten, users,events,items with no more users than events, "
            f"got {text!r}; e.g. 1000000,20000000,1000000"
        )

    def tenth(self) -> "MadeUpSize":
        """Return a tenth of all three."""
        return MadeUpSize(users=self.users // 10, events=self.events // 10, items=self.items // 10)


def write_large_log(size: MadeUpSize, folder: Path) -> None:
    """Write ``interactions.parquet`` and ``items.parquet``; no more than a piece of users is held in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(_items(size), folder / schema.ITEMS)
    kinds = pa.schema([(name, pa.int64()) for name in schema.REQUIRED_INTERACTION_COLUMNS])
    with pq.ParquetWriter(folder / schema.INTERACTIONS, kinds) as writer:
        for start in range(0, size.users, PIECE_USERS):
            users_U = np.arange(start, min(start + PIECE_USERS, size.users))
            writer.write_table(_events(size, users_U).cast(kinds))


def _categories(size: MadeUpSize) -> int:
    return max(1, size.items // ITEMS_A_CATEGORY)


def _events(size: MadeUpSize, users_U: IntArray) -> pa.Table:
    """Return the events of some users, a user's in time order."""
    rng = rng_for(0, "large log", int(users_U[0]))
    length_U = rng.geometric(size.users / size.events, len(users_U))
    place_E = np.repeat(np.arange(len(users_U)), length_U)
    kinds = _categories(size)
    likes_UC = rng.integers(0, kinds, (len(users_U), CATEGORIES_A_USER))
    kind_E = likes_UC[place_E, rng.integers(0, CATEGORIES_A_USER, len(place_E))]
    kind_E = np.where(rng.random(len(place_E)) < STRAY, rng.integers(0, kinds, len(place_E)), kind_E)
    per_kind = -(-size.items // kinds)
    item_E = np.minimum((rng.random(len(place_E)) ** SKEW * per_kind).astype(np.int64) * kinds + kind_E, size.items - 1)
    time_E = START + rng.integers(0, SPAN, len(place_E))
    order_E = np.lexsort((time_E, place_E))
    columns = {schema.USER: users_U[place_E], schema.ITEM: item_E, schema.TIMESTAMP: time_E[order_E]}
    return pa.table(columns).select(list(schema.REQUIRED_INTERACTION_COLUMNS))


def _items(size: MadeUpSize) -> pa.Table:
    """Return items whose titles and categories are made of a few words each."""
    rng, kinds = rng_for(0, "large log", "items"), _categories(size)
    kind_N = np.arange(size.items) % kinds
    words, things = pa.array(_WORDS), pa.array([f"thing{kind}" for kind in range(kinds)])
    pair = [words.take(pa.array(rng.integers(0, len(words), size.items))) for _ in range(2)]
    branches = [f"branch {number}" for number in range(BRANCHES)]
    names = pa.array(branches + [f"kind {kind}" for kind in range(kinds)])
    place_N2 = np.stack([kind_N % BRANCHES, BRANCHES + kind_N], axis=1)
    ends_N1 = pa.array(np.arange(0, 2 * size.items + 1, 2, dtype=np.int32))
    return pa.table(
        {
            schema.ITEM: np.arange(size.items),
            schema.TITLE: pc.binary_join_element_wise(*pair, things.take(pa.array(kind_N)), " "),
            schema.CATEGORIES: pa.ListArray.from_arrays(ends_N1, names.take(pa.array(place_N2.ravel()))),
        }
    )
