import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.data.events import EventLog
from recsys.model.batches import cut_windows, pad_histories
from tests.support.cycle_world import log_of


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
