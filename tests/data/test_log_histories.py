"""Histories of a log that are made when asked for, and logs that need no sorting."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.events import LogHistories, TimeCuts, build_log, log_in_order
from recsys.data.splits import questions, target_events


@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=30))
def test_log_in_order_when_sorted_or_not_then_is_the_sorted_log(rows: list[tuple[int, int, int]]) -> None:
    for given_rows in (rows, sorted(rows, key=lambda row: (row[0], row[2]))):
        user_E, item_E, time_E = np.array(given_rows, dtype=np.int64).T
        log = log_in_order(user_E, item_E, time_E, num_users=5, num_items=7)
        slow = build_log(user_E, item_E, time_E, np.arange(len(rows)), num_users=5, num_items=7)
        for name in ("offsets_U1", "items_E", "timestamps_E"):
            np.testing.assert_array_equal(getattr(log, name), getattr(slow, name))


def test_log_histories_when_asked_then_are_those_of_the_log() -> None:
    user_E = np.array([0, 0, 0, 2, 2, 3])
    log = build_log(user_E, np.arange(6), np.arange(6) * 10, np.arange(6), num_users=4, num_items=6)
    users_U = np.array([0, 2, 3])
    lazy = LogHistories(log=log, users_U=users_U, lengths_U=log.lengths_U[users_U] - 1)
    assert [history.items.tolist() for history in lazy] == [[0, 1], [3], []]
    assert [history.timestamps.tolist() for history in lazy[1:]] == [[30], []]
    assert lazy.take(np.array([2, 0]))[1].items.tolist() == [0, 1]
    assert lazy[-1].items.tolist() == []


@given(rows=st.lists(st.lists(st.integers(0, 5), max_size=7), min_size=1, max_size=8), cut=st.booleans())
def test_new_events_when_compared_with_a_loop_over_users_then_tell_whose_target_is_had(
    rows: list[list[int]], cut: bool
) -> None:
    user_E = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    item_E = np.array([item for row in rows for item in row], dtype=np.int64)
    time_E = np.concatenate([np.arange(len(row)) for row in rows]).astype(np.int64)
    log = build_log(user_E, item_E, time_E, time_E, num_users=len(rows), num_items=6)
    log = replace(log, cuts=TimeCuts(validation=2, test=4)) if cut else log
    for split in ("validation", "test"):
        queries = questions(log, split)
        users_U, event_U = target_events(log, split)
        assert queries.users_U.tolist() == users_U.tolist()
        had = [target in history.items for target, history in zip(queries.targets_U, queries.histories, strict=True)]
        assert (~log.new_E[event_U]).tolist() == had
