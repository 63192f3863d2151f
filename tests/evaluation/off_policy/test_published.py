"""Figures that Open Bandit Pipeline publishes, reproduced by our estimators.

Slates: examples/quickstart/synthetic_slate.ipynb of zr-obp. Digits: examples/multiclass/README.md.
"""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from recsys.evaluation.off_policy import single, slates
from recsys.evaluation.off_policy.estimate import PolicyValue
from recsys.evaluation.off_policy.plackett_luce import next_propensities, place_propensities
from tests.evaluation.reference.synthetic_slates import ACTIONS, PLACES, SyntheticSlates, synthetic_slates, true_value

PUBLISHED = {
    "random": {
        "truth": 1.644826,
        "standard ips": 1.646317,
        "independent ips": 1.646317,
        "reward interaction ips": 1.646317,
    },
    "optimal": {
        "truth": 1.612541,
        "standard ips": 1.629474,
        "independent ips": 1.674750,
        "reward interaction ips": 1.626834,
    },
    "anti-optimal": {
        "truth": 1.689333,
        "standard ips": 1.691671,
        "independent ips": 1.602862,
        "reward interaction ips": 1.687415,
    },
}
SIGN = {"random": 0.0, "optimal": 3.0, "anti-optimal": -3.0}


@pytest.fixture(scope="module")
def log() -> SyntheticSlates:
    return synthetic_slates(10_000)


def _estimates(log: SyntheticSlates, policy: str) -> dict[str, PolicyValue]:
    weights_BN = np.exp(SIGN[policy] * log.chance_BN)
    uniform_S = 1 / np.arange(ACTIONS, ACTIONS - PLACES, -1)
    rng = np.random.default_rng(0)
    prefix, place = np.zeros(log.slates_BS.shape), np.zeros(log.slates_BS.shape)
    for row, (weights_N, slate_S) in enumerate(zip(weights_BN, log.slates_BS, strict=True)):
        prefix[row] = next_propensities(weights_N, slate_S).cumprod() / uniform_S.cumprod()
        place[row] = place_propensities(weights_N, slate_S, rng=rng).values_S * ACTIONS
    found = [
        slates.standard_ips(log.rewards_BS, prefix[:, -1]),
        slates.independent_ips(log.rewards_BS, place),
        slates.reward_interaction_ips(log.rewards_BS, prefix),
    ]
    return {one.estimator: one for one in found}


@pytest.mark.slow
@pytest.mark.parametrize("policy", list(PUBLISHED))
def test_slate_estimators_when_run_on_the_published_world_then_give_the_published_figures(
    log: SyntheticSlates, policy: str
) -> None:
    published = dict(PUBLISHED[policy])
    truth = published.pop("truth")
    # summed up there in half precision
    assert true_value(log, np.exp(SIGN[policy] * log.chance_BN)) == pytest.approx(truth, abs=5e-4)
    found = _estimates(log, policy)
    for name, value in published.items():
        # it publishes means of bootstrap resamples, which differ from the estimate itself in the fourth digit
        assert found[name].value == pytest.approx(value, abs=1e-3), name
    misses = policy != "random"  # rewards depend on the items above: weights by place alone are wrong
    independent = found["independent ips"]
    assert (independent.low <= truth <= independent.high) is not misses
    cascade = found["reward interaction ips"]
    assert cascade.low <= truth <= cascade.high


@pytest.mark.slow
def test_ips_and_snips_when_run_on_digits_then_err_as_much_as_published() -> None:
    # Behaviour: logistic regression followed in 40 %, else uniform; target: random forest in 90 %. 30 splits, of which
    # 70 % evaluate. The classifiers' settings are those of examples/synthetic/conf/hyperparams.yaml, the only published
    # ones; forests differ between versions of scikit-learn, so the figures agree to a standard error of 30 runs.
    features, digits = load_digits(return_X_y=True)
    errors: dict[str, list[float]] = {"ips": [], "snips": []}
    for split in range(30):
        x_train, x, y_train, y = train_test_split(features, digits, test_size=0.7, random_state=split)
        rows, stream = np.arange(len(x)), np.random.RandomState(split)
        behaviour = LogisticRegression(max_iter=10_000, C=100, random_state=12345).fit(x_train, y_train).predict(x)
        target = RandomForestClassifier(30, max_depth=5, min_samples_leaf=10, random_state=12345).fit(x_train, y_train)
        logging_BN, target_BN = np.full((len(x), 10), 0.06), np.full((len(x), 10), 0.01)
        logging_BN[rows, behaviour] += 0.4
        target_BN[rows, target.predict(x)] += 0.9
        shown = np.array([stream.choice(10, p=row) for row in logging_BN])
        truth = target_BN[rows, y].mean()
        weights = single.importance_weights(target_BN[rows, shown], logging_BN[rows, shown])
        for one in (single.ips((shown == y) * 1.0, weights), single.snips((shown == y) * 1.0, weights)):
            errors[one.estimator].append(abs(one.value - truth) / truth)
    for name, published in (("ips", 0.0303), ("snips", 0.0228)):
        noise = float(np.std(errors[name], ddof=1)) / 30**0.5
        assert abs(np.mean(errors[name]) - published) < noise, (name, np.mean(errors[name]))
