"""A day behind a log: rows stay, every event is there once, and what is odd is counted."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.errors import DataError
from recsys.data.append import append
from recsys.data.prepare import PrepareConfig, Prepared, prepare
from recsys.data.table import BadRows, Dataset, build_dataset

Rows = list[tuple[str, str, int]]
EVENT = st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcd"), st.integers(0, 9))


def dataset(rows: Rows, items: pa.Table | None = None) -> Dataset:
    columns = zip(*rows, strict=True)
    table = pa.table(dict(zip(("user_id", "item_id", "timestamp"), map(list, columns), strict=True)))
    return build_dataset(table, items, where="test")


def prepared(rows: Rows, items: pa.Table | None = None) -> Prepared:
    return prepare(dataset(rows, items), PrepareConfig())


def events_of(log: Prepared) -> set[tuple[str, str, int]]:
    """Return the events as external ids, each user's checked to be in the order of time."""
    ids = log.items["item_id"].to_pylist()
    found = []
    for row, user in enumerate(log.user_ids):
        history = log.log.history(row)
        assert (np.diff(history.timestamps) >= 0).all()
        found += [(str(user), str(ids[item]), at) for item, at in zip(history.items, history.timestamps, strict=True)]
    assert len(set(found)) == len(found)
    return {(user, item, int(at)) for user, item, at in found}


@given(old=st.lists(EVENT, min_size=1, max_size=12), day=st.lists(EVENT, min_size=1, max_size=12))
def test_append_when_a_day_overlaps_then_each_event_is_there_once_and_all_is_counted(old: Rows, day: Rows) -> None:
    before = prepared(old)
    fresh = set(day) - set(old)
    if not fresh:
        with pytest.raises(DataError, match="give the events since 1970-01-01"):
            append(before, dataset(day), PrepareConfig())
        return
    got = append(before, dataset(day), PrepareConfig())
    after, counts = got.prepared, got.counts
    assert events_of(after) == set(old) | set(day)
    assert after.user_ids[: len(before.user_ids)] == before.user_ids
    old_ids = before.items["item_id"].to_pylist()
    assert after.items["item_id"].to_pylist()[: len(old_ids)] == old_ids
    assert (counts.events, counts.repeated) == (len(fresh), len(set(day) & set(old)))
    assert counts.new_users == len({user for user, _, _ in day} - {user for user, _, _ in old})
    assert counts.new_items == len({item for _, item, _ in day} - {item for _, item, _ in old})
    newest = {user: max(at for one, _, at in old if one == user) for user, _, _ in old}
    assert counts.late == sum(at < newest.get(user, at) for user, _, at in fresh)
    # which events are of the day
    ids, users = after.items["item_id"].to_pylist(), np.repeat(np.arange(after.log.num_users), after.log.lengths_U)
    of_day = {
        (str(after.user_ids[users[e]]), str(ids[after.log.items_E[e]]), int(after.log.timestamps_E[e]))
        for e in np.flatnonzero(got.of_day_E)
    }
    assert of_day == fresh


def test_append_when_times_are_equal_then_the_days_events_come_after_in_their_order() -> None:
    got = append(prepared([("u", "a", 5), ("u", "b", 5)]), dataset([("u", "d", 5), ("u", "c", 5)]), PrepareConfig())
    ids = got.prepared.items["item_id"].to_pylist()
    assert [ids[item] for item in got.prepared.log.items_E] == ["a", "b", "d", "c"]
    assert got.of_day_E.tolist() == [False, False, True, True]


def test_append_when_the_runs_filters_leave_events_out_then_they_are_counted() -> None:
    day = dataset([("u", "b", 6), ("v", "c", 7)])
    rated = Dataset(
        interactions=day.interactions.append_column("rating", pa.array([5.0, 1.0])), items=day.items, bad_rows=BadRows()
    )
    got = append(prepared([("u", "a", 5)]), rated, PrepareConfig(min_rating=3))
    assert (got.counts.events, got.counts.unwanted, got.counts.new_users) == (1, 1, 0)
    # the item of the event that is left out is still an item
    assert got.prepared.items["item_id"].to_pylist() == ["a", "b", "c"]


def test_append_when_items_are_told_then_new_ones_keep_the_runs_columns_and_known_ones_their_words() -> None:
    before = prepared([("u", "a", 5)], pa.table({"item_id": ["a"], "title": ["old"], "stock": [1]}))
    day_items = pa.table({"item_id": ["a", "b"], "title": ["changed", "new"], "colour": ["red", "blue"]})
    got = append(before, dataset([("u", "b", 6)], day_items), PrepareConfig())
    assert got.prepared.items.to_pylist() == [
        {"item_id": "a", "title": "old", "stock": 1},
        {"item_id": "b", "title": "new", "stock": None},
    ]
    assert (got.counts.changed_items, got.counts.unread_columns) == (1, ("colour",))


def test_append_when_new_ids_are_words_beside_numbers_then_users_become_text_and_items_are_refused() -> None:
    numbers = prepared([("1", "7", 5), ("2", "8", 6)])
    assert numbers.user_ids == [1, 2]
    got = append(numbers, dataset([("x", "7", 8)]), PrepareConfig())
    assert got.prepared.user_ids == ["1", "2", "x"]
    with pytest.raises(DataError, match="column 'item_id' of the new items must be of the run's type int64"):
        append(numbers, dataset([("1", "sku", 8)]), PrepareConfig())


def test_append_when_the_log_is_cut_in_time_then_the_cut_moves_on() -> None:
    rows = [("u", "a", day * 86_400) for day in range(10)] + [("v", "b", day * 86_400) for day in range(10)]
    config = PrepareConfig(split="time", test_share=0.2, validation_share=0.2)
    before = prepare(dataset(rows), config)
    later = [(user, "a", day * 86_400) for day in range(10, 20) for user in "uv"]
    after = append(before, dataset(later), config).prepared
    assert before.log.cuts is not None
    assert after.log.cuts is not None
    assert after.log.cuts.test > before.log.cuts.test
    assert after.report["cuts"] == {"validation": after.log.cuts.validation, "test": after.log.cuts.test}
