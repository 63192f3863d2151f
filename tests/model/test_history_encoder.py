"""The history encoder: causality and calendar spans."""

import numpy as np
import torch

from tests.support.cycle_world import tiny_generator


def test_encode_prefixes_when_the_future_changes_then_the_past_does_not() -> None:
    generator = tiny_generator()
    items = torch.tensor([[1, 2, 3, 4]])
    times = torch.tensor([[0, 10, 20, 30]])
    vectors = generator.items()
    with torch.inference_mode():
        before = generator.encode_prefixes(items, times, vectors).own_BTD
        items[0, 3], times[0, 3] = 9, 99999
        after = generator.encode_prefixes(items, times, vectors).own_BTD
    assert torch.allclose(before[0, :4], after[0, :4], atol=1e-6)
    assert not torch.allclose(before[0, 4], after[0, 4], atol=1e-4)


def test_set_calendar_when_times_are_spread_then_spans_hold_equal_numbers() -> None:
    generator = tiny_generator()
    generator.history.set_calendar(np.arange(6400))
    spans = torch.bucketize(torch.arange(6400), generator.history.calendar_edges)
    # 6,400 events in 64 spans: a hundred in each, give or take the edges.
    assert len(spans.unique()) == 64
    assert (torch.bincount(spans) - 100).abs().max() <= 1
