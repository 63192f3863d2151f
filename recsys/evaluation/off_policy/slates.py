"""Estimators for slates whose reward is the sum over their places.

They differ in what a place's reward may depend on: the whole slate (standard), its own item (independent), its own
item and those above (reward interaction; cascade doubly robust adds a reward model).

Axes: B logged request, S place in the slate, N item.
"""

import numpy as np

from recsys.core.arrays import Float64Array, IntArray
from recsys.evaluation.off_policy.estimate import PolicyValue, effective_sample_size, half_width, mean_estimate


def standard_ips(rewards_BS: Float64Array, weights_B: Float64Array, *, groups_B: IntArray | None = None) -> PolicyValue:
    """Return IPS with one weight per slate; no assumption on rewards, the largest variance.

    Shape:
        rewards_BS: (requests, places), 0 where a slate is shorter. weights_B: (requests,).
    """
    terms_B = rewards_BS.sum(axis=1) * weights_B
    return mean_estimate("standard ips", terms_B, weights_B=weights_B, groups_B=groups_B)


def independent_ips(
    rewards_BS: Float64Array, weights_BS: Float64Array, *, groups_B: IntArray | None = None
) -> PolicyValue:
    """Return IPS with each place weighted by its own item's probability there (Li et al. 2018).

    Unbiased only if a place's reward depends on its own item alone.

    Shape:
        weights_BS: (requests, places) ratio of the probabilities of the item at the place, over all slates.
    """
    return _by_place("independent ips", rewards_BS, weights_BS, groups_B)


def reward_interaction_ips(
    rewards_BS: Float64Array, weights_BS: Float64Array, *, groups_B: IntArray | None = None
) -> PolicyValue:
    """Return IPS with each place weighted by the items down to it (McInerney et al. 2020).

    Unbiased only if a place's reward does not depend on the items below it.

    Shape:
        weights_BS: (requests, places) ratio of the probabilities of the first items of the slate, down to the place.
    """
    return _by_place("reward interaction ips", rewards_BS, weights_BS, groups_B)


def cascade_doubly_robust(
    rewards_BS: Float64Array,
    weights_BS: Float64Array,
    *,
    predicted_BS: Float64Array,
    expected_BS: Float64Array,
    groups_B: IntArray | None = None,
) -> PolicyValue:
    """Return the doubly robust estimate under the cascade assumption (Kiyohara et al. 2022).

    Shape:
        weights_BS: as for :func:`reward_interaction_ips`.
        predicted_BS: (requests, places) predicted rewards of the logged item and all places below it.
        expected_BS: (requests, places) the same expected over the target's item at the place, given those above.
    """
    before_BS = np.concatenate([np.ones((len(weights_BS), 1)), weights_BS[:, :-1]], axis=1)
    terms_BS = weights_BS * (rewards_BS - predicted_BS) + before_BS * expected_BS
    return mean_estimate("cascade doubly robust", terms_BS.sum(axis=1), weights_B=weights_BS[:, -1], groups_B=groups_B)


def self_normalised(
    name: str, rewards_BS: Float64Array, weights_BS: Float64Array, *, groups_B: IntArray | None = None
) -> PolicyValue:
    """Return a slate estimate whose weights are divided, place by place, by their mean.

    Shape:
        weights_BS: (requests, places); repeat one weight per slate over its places for the standard estimator.
    """
    mean_S = weights_BS.mean(axis=0)
    weighted_BS = weights_BS * rewards_BS
    value_S = np.divide(weighted_BS.mean(axis=0), mean_S, out=np.zeros_like(mean_S), where=mean_S > 0)
    deviations_BS = np.divide(
        weighted_BS - value_S * weights_BS, mean_S, out=np.zeros_like(weights_BS), where=mean_S > 0
    )
    value = float(value_S.sum())
    half = half_width(deviations_BS.sum(axis=1), groups_B) if (mean_S > 0).all() else float("inf")
    return PolicyValue(
        estimator=f"self-normalised {name}",
        value=value,
        low=value - half,
        high=value + half,
        effective_sample_size=effective_sample_size(_worst_place(weights_BS)),
        requests=len(weights_BS),
    )


def _by_place(name: str, rewards_BS: Float64Array, weights_BS: Float64Array, groups_B: IntArray | None) -> PolicyValue:
    terms_B = (rewards_BS * weights_BS).sum(axis=1)
    return mean_estimate(name, terms_B, weights_B=_worst_place(weights_BS), groups_B=groups_B)


def _worst_place(weights_BS: Float64Array) -> Float64Array:
    """Return the weights of the place with the smallest effective sample size, shape (requests,)."""
    sizes_S = [effective_sample_size(weights_B) for weights_B in weights_BS.T]
    return np.asarray(weights_BS[:, int(np.argmin(sizes_S))])
