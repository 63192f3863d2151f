import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.sequence.windows import Windows, cut_from_end, pad, window_events
from tests.support.cycle_world import log_of

LENGTHS = st.lists(st.integers(0, 13), max_size=7)


def _log(lengths):
    return log_of([list(range(100 * user, 100 * user + n)) for user, n in enumerate(lengths)], 1000)


@given(LENGTHS, st.integers(1, 5), st.booleans())
def test_cut_from_end_when_compared_with_a_loop_over_users_then_is_equal(lengths, max_inputs, single):
    log = _log(lengths)
    slow = []
    for start, stop in zip(log.offsets_U1[:-1].tolist(), log.offsets_U1[1:].tolist(), strict=True):
        ends = range(stop, start, -1) if single and stop - start == 1 else range(stop, start + 1, -max_inputs)
        slow += [(max(start, end - max_inputs - 1), end) for end in ends]
    starts_W, lengths_W = cut_from_end(log, max_inputs, single=single)
    assert list(zip(starts_W.tolist(), (starts_W + lengths_W).tolist(), strict=True)) == slow


@given(LENGTHS, st.integers(1, 4))
def test_windows_when_histories_are_long_then_every_later_event_is_a_target_once(lengths, max_inputs):
    windows = Windows.of(_log(lengths), max_inputs)
    if len(windows):
        assert 2 <= windows.lengths_W.min() <= windows.lengths_W.max() <= max_inputs + 1
    items_BT, lengths_B = windows.padded(np.arange(len(windows)))
    targets = [item for row, n in zip(items_BT.tolist(), lengths_B.tolist(), strict=True) for item in row[1:n]]
    assert sorted(targets) == [100 * user + t for user, n in enumerate(lengths) for t in range(1, n)]


@given(LENGTHS.filter(len), st.integers(0, 9))
def test_pad_when_compared_with_pad_sequence_then_is_equal(lengths, seed):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(1, 50, n) for n in lengths]
    padded_BT, lengths_B = pad(rows)
    assert torch.equal(padded_BT, torch.nn.utils.rnn.pad_sequence([torch.from_numpy(r) for r in rows], True))
    assert lengths_B.tolist() == lengths


def test_window_events_when_the_last_window_ends_with_the_log_then_padding_is_zero():
    # windows [7, 8] and [9]: the log has nothing after 9
    assert window_events(np.array([7, 8, 9]), np.array([0, 2]), np.array([2, 1])).tolist() == [[7, 8], [9, 0]]
