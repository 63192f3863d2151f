"""Estimators tried many times in worlds with known truth: bias, spread, and how often the interval covers.

Axes: B logged request, S place in the slate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.evaluation.off_policy import single, slates
from recsys.evaluation.off_policy.estimate import PolicyValue
from recsys.evaluation.off_policy.reward_model import fit_rewards
from recsys.evaluation.off_policy.simulator import BanditWorld, SlateWorld

CLIP = 2.0
CRUDE_REWARD = 0.3
"""What the crude reward model of slates expects of every place."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One estimator over many logs of one world."""

    estimator: str
    truth: float
    bias: float
    deviation: float
    """Standard deviation of the estimates."""
    coverage: float
    """Share of logs whose 95 % interval covers the truth."""
    claims: bool
    """Whether the interval is claimed to cover the truth: the estimator never called itself biased."""


def try_estimators(
    draw: Callable[[np.random.Generator], Sequence[PolicyValue]], *, truth: float, runs: int, rng: np.random.Generator
) -> list[Trial]:
    """Draw ``runs`` logs, estimate from each, and summarise every estimator."""
    drawn = [draw(rng) for _ in range(runs)]
    trials = []
    for estimates in zip(*drawn, strict=True):
        values = np.array([one.value for one in estimates])
        trials.append(
            Trial(
                estimator=estimates[0].estimator,
                truth=truth,
                bias=float(values.mean()) - truth,
                deviation=float(values.std(ddof=1)),
                coverage=float(np.mean([one.low <= truth <= one.high for one in estimates])),
                claims=not any(one.biased for one in estimates),
            )
        )
    return trials


def single_estimates(world: BanditWorld, requests: int, rng: np.random.Generator) -> list[PolicyValue]:
    """Return every estimate that needs one item a request, from one log; the reward model reads the context."""
    contexts_B, items_B, rewards_B = world.log(requests, rng)
    target_BN, logging_BN = world.target_XN[contexts_B], world.logging_XN[contexts_B]
    rows_B = np.arange(requests)
    weights_B = single.importance_weights(target_BN[rows_B, items_B], logging_BN[rows_B, items_B])
    context_BF = np.eye(len(world.chance_XN))[contexts_B]
    model = fit_rewards(rewards_B, items_B, num_items=target_BN.shape[1], context_BF=context_BF, seed=0)
    predicted_BN = model.all_items()
    predicted_B, expected_B = predicted_BN[rows_B, items_B], (target_BN * predicted_BN).sum(axis=1)
    return [
        single.ips(rewards_B, weights_B),
        single.snips(rewards_B, weights_B),
        single.doubly_robust(rewards_B, weights_B, predicted_B=predicted_B, expected_B=expected_B),
        single.self_normalised_doubly_robust(rewards_B, weights_B, predicted_B=predicted_B, expected_B=expected_B),
        single.direct_method(expected_B),
        single.clipped_ips(rewards_B, weights_B, clip=CLIP),
        single.switch_doubly_robust(
            rewards_B, weights_B, predicted_B=predicted_B, expected_B=expected_B, threshold=CLIP
        ),
    ]


def slate_estimates(world: SlateWorld, requests: int, rng: np.random.Generator) -> list[PolicyValue]:
    """Return every estimate for slates from one log; the reward model of cascade doubly robust is a constant."""
    log = world.log(requests, rng)
    prefix_BS = log.target_BS / log.logging_BS
    rest_S = np.flip(np.flip(np.full(world.places, CRUDE_REWARD)).cumsum())
    model_BS = np.broadcast_to(rest_S, prefix_BS.shape)
    return [
        slates.standard_ips(log.rewards_BS, prefix_BS[:, -1]),
        slates.reward_interaction_ips(log.rewards_BS, prefix_BS),
        slates.self_normalised("reward interaction ips", log.rewards_BS, prefix_BS),
        slates.cascade_doubly_robust(log.rewards_BS, prefix_BS, predicted_BS=model_BS, expected_BS=model_BS),
        slates.independent_ips(log.rewards_BS, log.weights_BS),
    ]
