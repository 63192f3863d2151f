"""The compiled fit of two Weibull distributions takes out what the readable one does."""

import numpy as np
import pytest

from recsys.core.arrays import Float64Array
from recsys.decoding.reasoning_pruning import in_lower_part, likely_paths
from recsys.runtime.weibull import compiled_lower_part


def _two_sizes(rng: np.random.Generator, paths: int) -> Float64Array:
    return np.concatenate([rng.normal(0, 0.1, paths // 2), rng.normal(-3, 0.5, paths - paths // 2)])


KINDS = {
    "normal logs": lambda rng, paths: rng.normal(0, rng.uniform(0.1, 4), paths),
    "exponential logs": lambda rng, paths: -rng.exponential(rng.uniform(0.1, 3), paths),
    "uniform": lambda rng, paths: np.log(rng.uniform(size=paths)),
    "two sizes": _two_sizes,
    "far apart": lambda rng, paths: -rng.uniform(0, 60, paths),
    "ties": lambda rng, paths: np.log(rng.integers(1, 4, paths)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_lower_part_when_compiled_then_it_holds_the_values_of_the_readable_fit(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    for paths in (1, 3, 4, 5, 9, 17, 40, 64, 64, 64, 128):
        log_P = KINDS[kind](rng, paths)
        value_P: Float64Array = np.exp(log_P - log_P.max())
        np.testing.assert_array_equal(compiled_lower_part(value_P), in_lower_part(value_P))


def test_rows_when_the_fit_is_compiled_then_the_same_paths_stay() -> None:
    rng = np.random.default_rng(4)
    row_P, log_prob_P = np.sort(rng.integers(0, 5, 150)), rng.normal(-5, 2, 150)
    wanted_P = likely_paths(row_P, log_prob_P, "weibull")
    assert 0 < wanted_P.sum() < 150
    np.testing.assert_array_equal(likely_paths(row_P, log_prob_P, "weibull", compiled_lower_part), wanted_P)
