"""Which items a sampled softmax draws."""

import numpy as np
import pytest

from recsys.sequence.negatives import NegativeSampler


def test_draw_when_repeated_then_items_come_as_often_as_is_said() -> None:
    sampler = NegativeSampler(np.array([0, 1, 3, 0, 6]), 4)
    # three items have events: each has 1/6 evenly, and half of its share of the ten events
    assert sampler.probability_N == pytest.approx([0, 1 / 6 + 1 / 20, 1 / 6 + 3 / 20, 0, 1 / 6 + 6 / 20])
    rng, met_N = np.random.default_rng(0), np.zeros(5)
    for _ in range(20_000):
        drawn = sampler.draw(rng)
        met_N[drawn.items_Y] += 1
        expected_Y = 1 - (1 - sampler.probability_N[drawn.items_Y]) ** 4
        assert np.exp(drawn.log_expected_Y) == pytest.approx(expected_Y, rel=1e-5)
    assert met_N / 20_000 == pytest.approx(1 - (1 - sampler.probability_N) ** 4, abs=0.01)


def test_draw_when_compared_with_choice_then_draws_the_same_items() -> None:
    counts = np.random.default_rng(1).integers(0, 9, 200)
    sampler = NegativeSampler(counts, 50)
    wanted = np.random.default_rng(2).choice(200, 50, p=sampler.probability_N)
    assert sampler.draw(np.random.default_rng(2)).items_Y.tolist() == sorted(set(wanted.tolist()))
