"""The step from external ids to rows: of a catalogue's items, of a log's users, and of a history from outside.

Ids are read by :mod:`recsys.data.ids`, the same way in files, calls and requests. So are times: an event that comes
without a time counts as of the serving moment, which is now unless the caller gives another.

Axes: N id of the vocabulary, V looked-up value, T event.
"""

import csv
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.core.errors import CallError, DataError, IdError
from recsys.data.ids import IdIndex, compact_ids, read_ids

UNKNOWN: Final = -1
"""The row of an id that is not in a vocabulary."""

LATEST: Final = 253_402_300_799
"""The last second of the year 9999; larger numbers are no unix seconds."""

_SHOWN = 5
_TIMED = re.compile(r"(?s)(.+)@(\d+)")


@dataclass(frozen=True, kw_only=True)
class GivenEvent:
    """One event of a history from outside: an id as it came, and unix seconds where they are known."""

    item_id: object
    timestamp: int | None = None


@dataclass(frozen=True, kw_only=True)
class GivenHistory:
    """A history from outside as catalogue rows, and the ids in it that the catalogue does not have, each once."""

    history: History
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rows of looked-up values, and the values that have none, each once, in the order they came.

    Shape:
        rows_V: (values,) int64, :data:`UNKNOWN` where the vocabulary has no such id.
    """

    rows_V: IntArray
    unknown: tuple[str, ...]


class Vocabulary:
    """External ids and their rows: the row of an id is its place. A column of ids takes less memory than a list.

    >>> Vocabulary([7, 12]).row("7"), Vocabulary([7, 12]).row("007")
    (0, None)
    """

    def __init__(self, ids: Sequence[int | str] | pa.ChunkedArray) -> None:
        self._given = ids

    @cached_property
    def ids(self) -> Sequence[int | str]:
        """The ids in the order of their rows."""
        ids: Sequence[int | str] = self._given.to_pylist() if isinstance(self._given, pa.ChunkedArray) else self._given
        return ids

    @cached_property
    def _index(self) -> IdIndex:
        return IdIndex(self.ids)

    @cached_property
    def _column(self) -> pa.Array:
        if isinstance(self._given, pa.ChunkedArray):
            return self._given.cast(pa.string()).combine_chunks()
        return pa.array([str(value) for value in self.ids], pa.string())

    @cached_property
    def _stored(self) -> pa.Array:
        return compact_ids(pa.chunked_array([self._column])).combine_chunks()

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._given)

    def row(self, value: object) -> int | None:
        """Return the row of a single value, None where there is none.

        Raises:
            IdError: the value is no id; says why.
        """
        return self._index.row(value)

    def find(self, values: Iterable[object]) -> Found:
        """Return the rows of single values; a value that is no id is unknown by its own writing."""
        rows: list[int] = []
        unknown: dict[str, None] = {}
        for value in values:
            row = self._row_or_none(value)
            rows.append(UNKNOWN if row is None else row)
            if row is None:
                unknown[str(value)] = None
        return Found(rows_V=np.array(rows, np.int64), unknown=tuple(unknown))

    def rows_of(self, column: pa.ChunkedArray, where: str) -> IntArray:
        """Return the row of each value of a column, :data:`UNKNOWN` where there is none; shape (values,).

        Args:
            column: ids of any type that :func:`recsys.data.ids.read_ids` reads.
            where: what to call the column in an error message.
        """
        if pa.types.is_int64(column.type) and pa.types.is_int64(self.to_arrow().type):
            found = pc.index_in(column, value_set=self.to_arrow())
        else:
            found = pc.index_in(read_ids(column, where).texts, value_set=self._column)
        return np.asarray(pc.fill_null(found, UNKNOWN).to_numpy(), dtype=np.int64)

    def history(self, events: Sequence[GivenEvent], *, moment: int | None = None) -> GivenHistory:
        """Return a history from outside: events of known items by time, those of equal times as given.

        Args:
            events: what the user did, in the order it happened as far as times do not say otherwise.
            moment: the serving moment in unix seconds, at which events without a time count; None is now.

        Raises:
            CallError: a time is no unix second.
        """
        moment = int(time.time()) if moment is None else moment
        for event in events:
            _require_seconds(event)
        times_T, order_T = time_order([event.timestamp for event in events], moment)
        found = self.find(event.item_id for event in events)
        order_T = order_T[found.rows_V[order_T] != UNKNOWN]
        history = History(items=found.rows_V[order_T], timestamps=times_T[order_T])
        return GivenHistory(history=history, unknown=found.unknown)

    def parse_history(self, text: str) -> list[GivenEvent]:
        """Return the events of a text like ``id,id@1700000000,"an id, with a comma"``.

        What stands behind the last ``@`` is a time where it is digits, unless the whole part is an id of this
        vocabulary.
        """
        try:
            rows = list(csv.reader(text.splitlines(), skipinitialspace=True))
        except csv.Error as error:
            raise CallError(
                f"a history must be ids separated by commas, got {error}; shorten or quote the ids"
            ) from error
        parts = [part for row in rows for part in row if part.strip()]
        return [self._parse_event(part) for part in parts]

    def extended(self, ids: Sequence[int | str]) -> "Vocabulary":
        """Return a vocabulary with these ids behind its own, whose rows stay.

        Raises:
            DataError: an id is there already or comes twice.
        """
        texts = [str(value) for value in ids]
        old = [text for text in texts if self.row(text) is not None]
        if old or len(set(texts)) < len(texts):
            twice = old or sorted({text for text in texts if texts.count(text) > 1})
            raise DataError(f"new ids must be new and differ, got {some_ids(twice)}; leave out the rows that repeat")
        return Vocabulary([*self.ids, *ids])

    def to_arrow(self) -> pa.Array:
        """Return the ids as a column: int64 where all are written as such numbers, else text."""
        return self._stored

    def _row_or_none(self, value: object) -> int | None:
        try:
            return self.row(value)
        except IdError:
            return None

    def _parse_event(self, part: str) -> GivenEvent:
        timed = _TIMED.fullmatch(part.strip())
        if timed is None or self._row_or_none(part) is not None:
            return GivenEvent(item_id=part)
        return GivenEvent(item_id=timed[1], timestamp=int(timed[2]))


def some_ids(ids: Sequence[object]) -> str:
    """Return the first few ids for a message, and how many more there are."""
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(repr(value) for value in ids[:_SHOWN]) + more


def time_order(given: Sequence[int | None], moment: int) -> tuple[IntArray, IntArray]:
    """Return the times of events and the order they are read in: by time, those of equal times as given.

    Args:
        given: unix seconds; None where an event came without a time, which counts as of the moment.
        moment: the serving moment in unix seconds.

    Shape:
        return: (events,) times as given, and (events,) places in their order.
    """
    times_T = np.array([moment if seconds is None else seconds for seconds in given], np.int64)
    return times_T, np.argsort(times_T, kind="stable")


def _require_seconds(event: GivenEvent) -> None:
    if event.timestamp is not None and not 0 <= event.timestamp <= LATEST:
        raise CallError(
            f"the time of an event must be unix seconds, got {event.timestamp} for item {event.item_id!r}; "
            f"divide milliseconds by 1000"
        )
