"""A least-recently-used cache of what is computed of one history; a new event makes a new entry."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from recsys.contracts import History

_State = TypeVar("_State")


class HistoryCache(Generic[_State]):
    """The states of the histories that came last, by all their items and times.

    Args:
        limit: number of histories; 0 keeps none.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[bytes, _State] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, history: History, make: Callable[[History], _State]) -> _State:
        """Return a history's state, made where it is not kept; the least recently used one is dropped."""
        if not self._limit:
            return make(history)
        key = history.items.tobytes() + history.timestamps.tobytes()
        state = self._kept.pop(key, None)
        if state is None:
            state = make(history)
            while len(self._kept) >= self._limit:
                self._kept.popitem(last=False)
        self._kept[key] = state
        return state

    def forget(self) -> None:
        """Drop all."""
        self._kept.clear()
