"""Bench off-policy: bias, spread and coverage of every estimator in worlds whose truth is known."""

from collections.abc import Sequence

import numpy as np

from pipelines.benches.measure import Line
from recsys.evaluation.off_policy.simulator import bandit_world, slate_world
from recsys.evaluation.off_policy.trials import Trial, single_estimates, slate_estimates, try_estimators

RUNS = 200
REQUESTS = 2000
THOUSANDTHS = "1/1000"


def bench_off_policy() -> list[Line]:
    """Try the estimators of single items and of slates on 200 logs of 2,000 requests each."""
    bandit, slates = bandit_world(seed=1), slate_world(seed=3)
    rng = np.random.default_rng(2)
    trials = try_estimators(
        lambda drawn: single_estimates(bandit, REQUESTS, drawn), truth=bandit.truth, runs=RUNS, rng=rng
    )
    trials += try_estimators(
        lambda drawn: slate_estimates(slates, REQUESTS, drawn), truth=slates.truth, runs=RUNS, rng=rng
    )
    return _lines(trials)


def _lines(trials: Sequence[Trial]) -> list[Line]:
    lines = []
    for trial in trials:
        name = trial.estimator if trial.claims else f"{trial.estimator} (biased)"
        lines += [
            Line(what=f"{name}: bias, of {trial.truth:.4f}", ours=1000 * trial.bias, unit=THOUSANDTHS),
            Line(what=f"{name}: standard deviation", ours=1000 * trial.deviation, unit=THOUSANDTHS),
            Line(what=f"{name}: truth covered", ours=100 * trial.coverage, unit="%"),
        ]
    return lines
