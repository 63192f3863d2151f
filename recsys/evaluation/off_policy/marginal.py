"""Marginalised importance weights: items weighted by the probability of their codes instead of their own.

Axes: B logged request, N item, M codebook.
"""

import numpy as np

from recsys.core.arrays import Float64Array, IntArray
from recsys.evaluation.off_policy.estimate import PolicyValue, mean_estimate


def code_weights(
    target_BN: Float64Array, logging_BN: Float64Array, *, items_B: IntArray, codes_NM: IntArray
) -> Float64Array:
    """Return the ratio of both policies' probabilities of the logged item's codes (Saito and Joachims 2022).

    All items that share the logged item's codes in the given codebooks count together, so that fewer codebooks give
    smaller weights. With every codebook and no shared codes these are the ordinary weights.

    Shape:
        target_BN, logging_BN: (requests, items) probabilities. items_B: (requests,) what was logged.
        codes_NM: (items, codebooks) the codebooks to condition on.
    """
    if len(codes_NM) != target_BN.shape[1] or target_BN.shape != logging_BN.shape:
        raise ValueError(
            f"policies and codes must agree on the items, got {target_BN.shape}, {logging_BN.shape} and "
            f"{codes_NM.shape}; use one catalogue"
        )
    _, cluster_N = np.unique(codes_NM, axis=0, return_inverse=True)
    cluster_N = cluster_N.reshape(-1)
    same_BN = cluster_N[None, :] == cluster_N[items_B][:, None]
    logging_B = (logging_BN * same_BN).sum(axis=1)
    if not (logging_B > 0).all():
        raise ValueError(
            f"the logging policy must give what it logged a chance, got {int((logging_B <= 0).sum())} requests at 0; "
            "check its probabilities"
        )
    return np.asarray((target_BN * same_BN).sum(axis=1) / logging_B)


def mips(rewards_B: Float64Array, weights_B: Float64Array, *, groups_B: IntArray | None = None) -> PolicyValue:
    """Return IPS with the weights of :func:`code_weights`.

    Unbiased only if the reward depends on the item through its codes alone.
    """
    return mean_estimate("mips", weights_B * rewards_B, weights_B=weights_B, groups_B=groups_B)
