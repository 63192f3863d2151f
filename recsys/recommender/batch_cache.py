"""A cache of what a function of histories returned, for callers with the same batches of histories again."""

import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from recsys.contracts import History

_Result = TypeVar("_Result")
_Key = tuple[bytes, ...]


class BatchCache(Generic[_Result]):
    """A function of histories that is computed once for each batch.

    Two batches are the same if their histories have the same items at the same times, in the same order. A result that
    is kept is handed out again, not copied, so callers must not write to it.

    Args:
        function: returns what is kept of a batch.
        batches: how many batches are kept, the latest; None keeps all.
    """

    def __init__(self, function: Callable[[Sequence[History]], _Result], *, batches: int | None = None) -> None:
        self.function, self.batches = function, batches
        self.saved_seconds = 0.0
        """What the calls that found a kept result would have taken."""
        self._kept: dict[_Key, tuple[_Result, float]] = {}

    def __call__(self, histories: Sequence[History]) -> _Result:
        """Return the function's result for a batch."""
        key = tuple(column.tobytes() for history in histories for column in (history.items, history.timestamps))
        if key in self._kept:
            result, seconds = self._kept[key]
            self.saved_seconds += seconds
            return result
        if len(self._kept) == self.batches:
            del self._kept[next(iter(self._kept))]  # before the new result needs memory
        began = time.perf_counter()
        result = self.function(histories)
        self._kept[key] = result, time.perf_counter() - began
        return result
