"""The answer without a model: last good answer, popular in the category, popular."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import Slate
from recsys.core.arrays import BoolArray, IntArray
from serving.items import ItemId, ItemTable


class LastGoodAnswers:
    """The last good answer of each user, as external ids; safe to use from several threads.

    Attributes:
        forgotten: how often a user was forgotten; an answer that began before the latest time is not kept.
    """

    def __init__(self, users: int) -> None:
        self._limit = users
        self._last: OrderedDict[str, tuple[ItemId, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self.forgotten = 0

    def keep(self, user_id: str, item_ids: Sequence[ItemId], *, began: int) -> None:
        """Keep a good answer for the user; the user unheard of for longest makes room.

        Args:
            user_id: whose answer it is.
            item_ids: what it shows.
            began: ``forgotten`` when the answer was begun.
        """
        with self._lock:
            if began != self.forgotten:
                return
            self._last[user_id] = tuple(item_ids)
            self._last.move_to_end(user_id)
            while len(self._last) > self._limit:
                self._last.popitem(last=False)

    def of(self, user_id: str | None) -> tuple[ItemId, ...]:
        """Return the ids of the user's last good answer; nothing where there is none."""
        if user_id is None:
            return ()
        with self._lock:
            return self._last.get(user_id, ())

    def forget(self, user_id: str) -> None:
        """Drop what is kept of a user."""
        with self._lock:
            self.forgotten += 1
            self._last.pop(user_id, None)

    def users(self) -> list[str]:
        """Return the users of whom something is kept."""
        with self._lock:
            return list(self._last)


@dataclass(frozen=True, kw_only=True, eq=False)
class FallbackRanker:
    """All items in the order of the chain; later links fill up what earlier ones leave open.

    Shape:
        order_N: (items,) rows, best first.
        bounds: where in the order each link's items end, with the link's name.
    """

    order_N: IntArray
    bounds: tuple[tuple[str, int], ...]

    def rank(self, masks: Sequence[BoolArray], n: int) -> list[Slate]:
        """Return up to ``n`` items under each mask; a score is minus the logarithm of an item's place in the chain.

        Shape:
            masks: one (items,) mask a slate, True where an item may be shown.
        """
        slates = []
        for mask in masks:
            places = np.flatnonzero(mask[self.order_N])[:n]
            slates.append(Slate(items=self.order_N[places], scores=-np.log1p(places).astype(np.float32)))
        return slates

    def strategy(self, items: IntArray) -> str:
        """Return the name of the link that gave the first of the items.

        Shape:
            items: (shown items,) rows.
        """
        if not len(items):
            return "popular"
        place = int(np.flatnonzero(self.order_N == items[0])[0])
        return next(name for name, stop in self.bounds if place < stop)


def fallback_ranker(items: ItemTable, history: IntArray, last_good: Sequence[ItemId]) -> FallbackRanker:
    """Return the chain for one user.

    Shape:
        history: (events,) rows, oldest first.
    """
    links: list[tuple[str, IntArray]] = []
    if last_good:
        links.append(("last_good", items.indices_of(last_good)))
    if len(history) and (categories := items.categories[int(history[-1])]):
        members = items.members(categories[-1])
        if members is not None:
            by_count = np.argsort(-items.counts_N[members], kind="stable")
            links.append(("popular_in_category", members[by_count]))
    links.append(("popular", items.popular_N))
    open_N = np.ones(len(items), np.bool_)
    parts, bounds, size = [], [], 0
    for name, rows in links:
        fresh = rows[open_N[rows]]
        _, first = np.unique(fresh, return_index=True)
        fresh = fresh[np.sort(first)]
        open_N[fresh] = False
        size += len(fresh)
        parts.append(fresh)
        bounds.append((name, size))
    return FallbackRanker(order_N=np.concatenate(parts), bounds=tuple(bounds))
