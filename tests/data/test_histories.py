"""Histories read from a file are those of the log in memory."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.errors import ArtifactError
from recsys.data.events import EventLog
from recsys.data.histories import HistoryReader
from tests.support.random_log import random_log

USERS = 12
log_of_seed = partial(random_log, users=USERS, active=USERS - 3, events=60)
"""A log in which some users have no event."""


def write_events(log: EventLog, folder: Path, *, rows: int, statistics: bool = True) -> Path:
    users = np.repeat(np.arange(log.num_users), log.lengths_U)
    table = pa.table({"user": users, "item": log.items_E, "timestamp": log.timestamps_E})
    pq.write_table(table, folder / "events.parquet", row_group_size=rows, write_statistics=statistics)
    return folder


@given(
    seed=st.integers(0, 99),
    asked=st.lists(st.integers(-1, USERS - 1), max_size=20),
    rows=st.sampled_from([1, 7, 1000]),
    statistics=st.booleans(),
)
def test_read_when_users_are_asked_in_any_order_then_histories_are_those_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, seed: int, asked: list[int], rows: int, statistics: bool
) -> None:
    log = log_of_seed(seed)
    folder = write_events(log, tmp_path_factory.mktemp("data"), rows=rows, statistics=statistics)
    histories = HistoryReader(folder).read(np.array(asked, np.int64))
    assert len(histories) == len(asked)
    for row, got in zip(asked, histories, strict=True):
        assert got.items.tolist() == ([] if row < 0 else log.history(row).items.tolist())
        assert got.timestamps.tolist() == ([] if row < 0 else log.history(row).timestamps.tolist())


def test_reader_when_there_is_no_log_then_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="must be the events of a run"):
        HistoryReader(tmp_path)
