"""Many intervals from one set of resampled users against intervals one by one."""

import numpy as np
import pytest

from recsys.core.seeds import rng_for
from recsys.evaluation.intervals import bootstrap_intervals
from recsys.evaluation.resampling import resample


def test_resample_when_one_group_holds_everything_then_equals_the_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values, users = rng.random((200, 2)), rng.integers(40, size=200)
    found = resample(values, users, np.ones((1, 200), bool), rng_for(3, "x"))
    low, high = bootstrap_intervals(values, users, rng_for(3, "x"))
    for figure in range(2):
        estimate = found.estimate(0, figure)
        assert (estimate.low, estimate.high) == pytest.approx((low[figure], high[figure]))
        assert estimate.value == pytest.approx(values[:, figure].mean())


def test_resample_when_figures_differ_by_a_constant_then_so_does_every_resample() -> None:
    rng = np.random.default_rng(1)
    one = rng.random(100)
    found = resample(np.stack([one + 0.25, one], axis=1), np.arange(100), np.ones((1, 100), bool), rng)
    difference = found.difference(0, 0, 1)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.25, 0.25, 0.25))


def test_resample_when_a_group_has_one_user_then_its_interval_has_no_width() -> None:
    rng = np.random.default_rng(2)
    groups = np.stack([np.ones(50, bool), np.arange(50) == 7])
    found = resample(rng.random((50, 1)), np.arange(50), groups, rng)
    lonely = found.estimate(1, 0)
    assert lonely.low == lonely.value == lonely.high
