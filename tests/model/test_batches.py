"""Training batches: windows of histories, against one user after the other."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.data.events import EventLog, build_log
from recsys.model.batches import cut_windows, epoch_batches, pad_histories, reorder_ties
from tests.support.cycle_world import cycle_log, log_of


def _slow_windows(log: EventLog, max_length: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Cut one user after the other."""
    found = []
    for start, stop in zip(log.offsets_U1[:-1].tolist(), log.offsets_U1[1:].tolist(), strict=True):
        if stop == start:
            continue
        end = stop if stop - start <= max_length else start + int(rng.integers(1, max_length + 1))
        while start < stop:
            found.append((start, end - start))
            start, end = end, min(stop, end + max_length)
    return found


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), longest=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_cut_windows_when_compared_with_a_loop_over_users_then_same_seeds_give_same_windows(
    lengths: list[int], longest: int, seed: int
) -> None:
    log = log_of([[0] * n for n in lengths], 1)
    starts_W, lengths_W = cut_windows(log, longest, np.random.default_rng(seed))
    slow = _slow_windows(log, longest, np.random.default_rng(seed))
    assert list(zip(starts_W.tolist(), lengths_W.tolist(), strict=True)) == slow


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6), longest=st.integers(1, 6))
def test_pad_histories_when_compared_with_a_loop_over_rows_then_is_equal(lengths: list[int], longest: int) -> None:
    histories = [History(items=np.arange(n) + 1, timestamps=np.arange(n) + 100) for n in lengths]
    items_BT, times_BT, lengths_B = pad_histories(histories, longest)
    assert lengths_B.tolist() == [min(n, longest) for n in lengths]
    assert items_BT.shape == times_BT.shape == (len(lengths), max(lengths_B))
    for row, history in enumerate(histories):
        assert _unpadded(items_BT[row], lengths_B[row]) == history.items[-longest:].tolist()
        assert _unpadded(times_BT[row], lengths_B[row]) == history.timestamps[-longest:].tolist()


def _unpadded(row_T: IntArray, length: int) -> list[int]:
    assert not row_T[length:].any()
    return list(row_T[:length])


def test_batches_when_a_users_history_is_cut_then_only_the_window_at_its_end_is_closed() -> None:
    # histories of 9 events in windows of at most 6: the last window of each user ends the history, no other does
    log = cycle_log(num_users=5)
    drawn = list(epoch_batches(log, max_length=6, positions=8, rng=np.random.default_rng(0)))
    assert sum(batch.closed_B.sum() for batch in drawn) == 5
    for batch in drawn:
        ends_B = batch.timestamps_BT[np.arange(len(batch.lengths_B)), batch.lengths_B - 1]
        assert (batch.closed_B == (ends_B == 8 * 3600)).all()


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_epoch_batches_when_cut_then_hold_every_event_once(lengths: list[int], seed: int) -> None:
    lengths = [*lengths, 1]
    users = np.repeat(np.arange(len(lengths)), lengths)
    events = np.arange(len(users))
    log = build_log(users, events, events, events, num_users=len(lengths), num_items=len(events))
    found: list[int] = []
    for batch in epoch_batches(log, max_length=7, positions=20, rng=np.random.default_rng(seed)):
        assert batch.lengths_B.max() <= 7
        for row, length in enumerate(batch.lengths_B):
            found.extend(batch.items_BT[row, :length])
    assert sorted(found) == list(events)


def test_epoch_batches_when_ties_are_shuffled_then_time_still_ascends_and_items_stay() -> None:
    # Two users; the first has a tie at time 5, the second none.
    users, items, times = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 4]), np.array([5, 5, 9, 1, 2])
    log = build_log(users, items, times, np.arange(5), num_users=2, num_items=5)
    orders = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for batch in epoch_batches(log, max_length=7, positions=20, rng=rng, shuffle_ties=1.0):
            for row, length in enumerate(batch.lengths_B):
                assert (np.diff(batch.timestamps_BT[row, :length]) >= 0).all()
                orders.add(tuple(batch.items_BT[row, :length].tolist()))
    assert orders == {(0, 1, 2), (1, 0, 2), (3, 4)}


def test_epoch_batches_when_asked_in_any_order_then_are_those_of_one_stream_of_random_numbers() -> None:
    log = log_of([[0] * n for n in (9, 3, 5, 14, 2, 7)], 1)
    log = replace(log, items_E=np.arange(len(log.items_E)), timestamps_E=np.zeros_like(log.timestamps_E))
    settings = {"max_length": 6, "positions": 10}
    plain = epoch_batches(log, rng=np.random.default_rng(5), **settings)
    rng = np.random.default_rng(5)
    epoch_batches(log, rng=rng, **settings)  # draws cuts and order, and leaves the rest to the ties
    slow = [reorder_ties(batch, 0.7, rng) for batch in plain]
    fast = epoch_batches(log, rng=np.random.default_rng(5), shuffle_ties=0.7, **settings)
    assert len(fast) == len(slow) > 3
    for place in reversed(range(len(slow))):
        np.testing.assert_array_equal(fast[place].items_BT, slow[place].items_BT)
    assert len(fast[1:3]) == 2
