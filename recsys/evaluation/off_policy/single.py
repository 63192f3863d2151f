"""Estimators for one item per request: replay matching, importance weights, the direct method and both together.

Axes: B logged request, N item.
"""

import numpy as np

from recsys.core.arrays import Float64Array, IntArray
from recsys.evaluation.off_policy.estimate import PolicyValue, mean_estimate, ratio_estimate


def importance_weights(target_B: Float64Array, logging_B: Float64Array) -> Float64Array:
    """Return target / logging probability of what was logged.

    Shape:
        target_B: (requests, ...) the target policy's probability of the logged action, in [0, 1].
        logging_B: same shape, the logging policy's, in (0, 1].
    """
    target_B, logging_B = np.asarray(target_B, np.float64), np.asarray(logging_B, np.float64)
    if target_B.shape != logging_B.shape:
        raise ValueError(
            f"both policies must have one probability per logged action, got shapes {target_B.shape} and "
            f"{logging_B.shape}; align them"
        )
    if not ((logging_B > 0) & (logging_B <= 1)).all():
        bad = int((~((logging_B > 0) & (logging_B <= 1))).sum())
        raise ValueError(f"logged propensities must lie in (0, 1], got {bad} outside; leave those requests out")
    if not ((target_B >= 0) & (target_B <= 1 + 1e-9)).all():
        raise ValueError("target probabilities must lie in [0, 1], got some outside; normalise the target policy")
    return target_B / logging_B


def replay_matching(
    rewards_B: Float64Array, matched_B: Float64Array, *, groups_B: IntArray | None = None
) -> PolicyValue:
    """Return the mean reward where a deterministic target agrees with the log (Li et al. 2011).

    Unbiased only for a log whose propensities are equal for all items: it uses none.

    Shape:
        rewards_B: (requests,). matched_B: (requests,) 1 where the target would have shown the logged item, else 0.
    """
    return ratio_estimate(
        "replay matching", rewards_B * matched_B, np.asarray(matched_B, np.float64), groups_B=groups_B
    )


def ips(rewards_B: Float64Array, weights_B: Float64Array, *, groups_B: IntArray | None = None) -> PolicyValue:
    """Return the inverse propensity score estimate: the mean of weight times reward.

    Rewards 1, 0 and weights 3, .5 give 1.5.
    """
    return mean_estimate("ips", weights_B * rewards_B, weights_B=weights_B, groups_B=groups_B)


def snips(rewards_B: Float64Array, weights_B: Float64Array, *, groups_B: IntArray | None = None) -> PolicyValue:
    """Return the self-normalised estimate: the weighted mean of rewards; consistent, its bias is of order 1 / n."""
    return ratio_estimate("snips", weights_B * rewards_B, weights_B, groups_B=groups_B)


def clipped_ips(
    rewards_B: Float64Array, weights_B: Float64Array, *, clip: float, groups_B: IntArray | None = None
) -> PolicyValue:
    """Return IPS with no weight above ``clip``; biased as soon as a weight was clipped."""
    share = _clipped_share(weights_B, clip)
    clipped_B = np.minimum(weights_B, clip)
    return mean_estimate(
        "clipped ips",
        clipped_B * rewards_B,
        weights_B=clipped_B,
        groups_B=groups_B,
        clipped_share=share,
        biased=share > 0,
    )


def direct_method(expected_B: Float64Array, *, groups_B: IntArray | None = None) -> PolicyValue:
    """Return the mean of the rewards that a reward model expects under the target; as biased as the model is.

    Shape:
        expected_B: (requests,) sum over items of target probability times predicted reward.
    """
    ones_B = np.ones(len(expected_B))
    return mean_estimate("direct method", expected_B, weights_B=ones_B, groups_B=groups_B, biased=True)


def doubly_robust(
    rewards_B: Float64Array,
    weights_B: Float64Array,
    *,
    predicted_B: Float64Array,
    expected_B: Float64Array,
    groups_B: IntArray | None = None,
) -> PolicyValue:
    """Return the direct method corrected by the weighted errors of its model (Dudik et al. 2011).

    Unbiased if the propensities are right, whatever the model; the model must not have been fitted on the request.

    Shape:
        predicted_B: (requests,) predicted reward of the logged item.
        expected_B: (requests,) predicted reward under the target.
    """
    terms_B = expected_B + weights_B * (rewards_B - predicted_B)
    return mean_estimate("doubly robust", terms_B, weights_B=weights_B, groups_B=groups_B)


def self_normalised_doubly_robust(
    rewards_B: Float64Array,
    weights_B: Float64Array,
    *,
    predicted_B: Float64Array,
    expected_B: Float64Array,
    groups_B: IntArray | None = None,
) -> PolicyValue:
    """Return the doubly robust estimate whose correction is a weighted mean instead of a mean of weighted errors."""
    mean = float(weights_B.mean()) if len(weights_B) else 0.0
    errors_B = rewards_B - predicted_B
    correction = float((weights_B * errors_B).mean()) / mean if mean else 0.0
    terms_B = expected_B + correction
    if mean:
        terms_B = terms_B + weights_B * (errors_B - correction) / mean
    return mean_estimate("self-normalised doubly robust", terms_B, weights_B=weights_B, groups_B=groups_B)


def switch_doubly_robust(
    rewards_B: Float64Array,
    weights_B: Float64Array,
    *,
    predicted_B: Float64Array,
    expected_B: Float64Array,
    threshold: float,
    groups_B: IntArray | None = None,
) -> PolicyValue:
    """Return the doubly robust estimate that trusts the model alone where a weight exceeds the threshold."""
    kept_B = weights_B * (weights_B <= threshold)
    share = _clipped_share(weights_B, threshold)
    terms_B = expected_B + kept_B * (rewards_B - predicted_B)
    return mean_estimate("switch", terms_B, weights_B=kept_B, groups_B=groups_B, clipped_share=share, biased=share > 0)


def _clipped_share(weights_B: Float64Array, limit: float) -> float:
    if limit <= 0:
        raise ValueError(f"the largest weight kept must be above 0, got {limit}; 10 to 100 is usual")
    return float((weights_B > limit).mean()) if len(weights_B) else 0.0
