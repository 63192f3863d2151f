"""What would change for users from one release to another: both rank the same histories, in titles and ids.

Axes: U user, N item.
"""

from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recsys.contracts import Recommender
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.seeds import rng_for
from recsys.data import schema
from recsys.data.prepare import Prepared
from recsys.evaluation.side_by_side import SideBySide, side_by_side
from recsys.evaluation.slices import ACTIVE_HISTORY, SHORT_HISTORY

SHOWN_USERS = 200
"""How many users' slates are compared."""


@dataclass(frozen=True, kw_only=True)
class KindChanges:
    """How much stays for one kind of users."""

    kind: str
    users: int
    overlap: float
    """The mean share of their slates that both releases show."""


@dataclass(frozen=True, kw_only=True)
class UserChanges:
    """What one user would see more and less of, in titles."""

    user: str
    enters: tuple[str, ...]
    leaves: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SlateChanges:
    """What would change for a sample of users from one release to another."""

    users: int
    """How many users were compared."""
    overlap: float
    """The mean share of a slate that both releases show."""
    kinds: tuple[KindChanges, ...]
    enters: tuple[tuple[str, int], ...]
    """Titles that enter most slates, and how many; ``leaves`` likewise."""
    leaves: tuple[tuple[str, int], ...]
    examples: tuple[UserChanges, ...]
    """The users whose slates change most."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields by their names, kinds as lists of name, users and overlap."""
        return asdict(self) | {"kinds": [[one.kind, one.users, one.overlap] for one in self.kinds]}


def changes(
    both: Sequence[Recommender], prepared: Prepared, *, seed: int, known: Container[int | str] | None = None
) -> SlateChanges:
    """Return what would change for a seeded sample of users: items, kinds of users, and the users who see most of it.

    Args:
        both: the recommender in use and the one that would replace it, in the numbers of the prepared log.
        prepared: the log whose users are compared.
        seed: decides which users are drawn.
        known: ids of the users that the first one was trained on, where that is known.
    """
    log = prepared.log
    drawn_U = rng_for(seed, "changes").permutation(log.num_users)[:SHOWN_USERS]
    histories = [log.history(user) for user in drawn_U.tolist()]
    found = side_by_side(both[0], both[1], histories, users=drawn_U.tolist(), num_items=log.num_items)
    titles = titles_of(prepared)
    return SlateChanges(
        users=found.histories,
        overlap=found.overlap,
        kinds=_by_kind(found, _kinds(prepared, drawn_U, known)),
        enters=tuple((titles[item], count) for item, count in found.enters),
        leaves=tuple((titles[item], count) for item, count in found.leaves),
        examples=tuple(
            UserChanges(
                user=str(prepared.user_ids[one.user]),
                enters=tuple(titles[item] for item in one.enters),
                leaves=tuple(titles[item] for item in one.leaves),
            )
            for one in found.examples
        ),
    )


def titles_of(prepared: Prepared) -> list[str]:
    """Return each item's title, its id where it has none."""
    ids = prepared.items[schema.ITEM].to_pylist()
    titled = prepared.items[schema.TITLE].to_pylist() if schema.TITLE in prepared.items.column_names else ids
    return [str(title or item) for title, item in zip(titled, ids, strict=True)]


def _kinds(prepared: Prepared, drawn_U: IntArray, known: Container[int | str] | None) -> dict[str, BoolArray]:
    """Return which of the drawn users are of each kind, by the slices' bounds; empty kinds are left out."""
    lengths_U = prepared.log.lengths_U[drawn_U]
    kinds = {
        f"fewer than {SHORT_HISTORY} events": lengths_U < SHORT_HISTORY,
        f"{SHORT_HISTORY} to {ACTIVE_HISTORY - 1} events": (lengths_U >= SHORT_HISTORY) & (lengths_U < ACTIVE_HISTORY),
        f"at least {ACTIVE_HISTORY} events": lengths_U >= ACTIVE_HISTORY,
    }
    if known is not None:
        ids = [prepared.user_ids[user] for user in drawn_U.tolist()]
        kinds["new since then"] = np.array([one not in known for one in ids], dtype=np.bool_)
    return {name: of_kind_U for name, of_kind_U in kinds.items() if of_kind_U.any()}


def _by_kind(found: SideBySide, kinds: dict[str, BoolArray]) -> tuple[KindChanges, ...]:
    """Return for each kind of users how many they are and the mean share of their slates that stays."""
    shared_U = np.array(found.shared)
    return tuple(
        KindChanges(kind=name, users=int(of_kind_U.sum()), overlap=float(shared_U[of_kind_U].mean()))
        for name, of_kind_U in kinds.items()
    )
