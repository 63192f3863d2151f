"""Reading some users' histories from a run's event file, in memory that does not grow with the log.

Axes: U requested user, E event.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.contracts import History, empty_history
from recsys.core.arrays import IntArray
from recsys.core.errors import ArtifactError
from recsys.data import schema
from recsys.data.prepare import EVENTS

_USER, _ITEM = "user", "item"


class HistoryReader:
    """Reads histories from ``events.parquet`` of a run's data folder, which holds users one after the other.

    Only the row groups that can hold a requested user are read, one at a time: users near each other are read fastest.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS
        try:
            self._file = pq.ParquetFile(self._path)
        except (pa.ArrowException, OSError) as error:
            raise ArtifactError(
                f"{self._path} must be the events of a run, got {error}; run `recsys train` again"
            ) from error

    def read(self, rows_U: IntArray) -> list[History]:
        """Return the history of each user, empty for a row below 0; users may come twice and in any order.

        Shape:
            rows_U: (users,) user rows of the run.
        """
        wanted = np.unique(rows_U[rows_U >= 0])
        parts = list(self._events(wanted))
        user_E, item_E, time_E = (
            np.concatenate([part[column] for part in parts]) if parts else np.empty(0, np.int64) for column in range(3)
        )
        starts_U, stops_U = (np.searchsorted(user_E, rows_U, side=side) for side in ("left", "right"))
        return [
            History(items=item_E[start:stop], timestamps=time_E[start:stop]) if row >= 0 else empty_history()
            for row, start, stop in zip(rows_U.tolist(), starts_U.tolist(), stops_U.tolist(), strict=True)
        ]

    def _events(self, wanted: IntArray) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        """Yield users, items and times of the wanted users' events, in the order of the file."""
        if not len(wanted):
            return
        for group in range(self._file.num_row_groups):
            if not self._may_hold(group, wanted):
                continue
            table = self._file.read_row_group(group, columns=[_USER, _ITEM, schema.TIMESTAMP])
            user_E = table[_USER].to_numpy()
            kept_E = np.isin(user_E, wanted)
            yield user_E[kept_E], table[_ITEM].to_numpy()[kept_E], table[schema.TIMESTAMP].to_numpy()[kept_E]

    def _may_hold(self, group: int, wanted: IntArray) -> bool:
        column = self._file.schema_arrow.get_field_index(_USER)
        statistics = self._file.metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            return True
        left, right = np.searchsorted(wanted, [statistics.min, statistics.max + 1])
        return bool(left < right)
