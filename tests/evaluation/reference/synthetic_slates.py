"""The synthetic slates of Open Bandit Pipeline's quickstart, drawn from the same random stream without obp.

10 actions, slates of 3 drawn uniformly, binary rewards, each place's logit the action's own plus an interaction with
every action above it (cascade additive), seed 12345. Two of its habits change the figures and are kept: the reward of
request i reads the context of request i // 3, and chances are standardised over the requests they are computed for,
which are thirds of the log when the truth is summed up.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from recsys.core.arrays import Float64Array, IntArray

ACTIONS, PLACES, SEED = 10, 3, 12345
THIRDS = 3


@dataclass(frozen=True, kw_only=True)
class SyntheticSlates:
    """The log: contexts, the base chance of each action at each request, slates, rewards, how actions interact."""

    context_BF: Float64Array
    chance_BN: Float64Array
    slates_BS: IntArray
    rewards_BS: Float64Array
    interaction_NN: Float64Array


def synthetic_slates(requests: int) -> SyntheticSlates:
    """Draw the log as `SyntheticSlateBanditDataset(...).obtain_batch_bandit_feedback(requests)` of obp 0.5.4 does."""
    stream = np.random.RandomState(SEED)
    context_BF = stream.normal(size=(requests, 2))
    uniform = np.full(ACTIONS, 1 / ACTIONS)
    slates_BS = np.zeros((requests, PLACES), np.int64)
    for row in range(requests):
        left = np.arange(ACTIONS)
        for place in range(PLACES):
            slates_BS[row, place] = stream.choice(left, p=uniform[: len(left)] / uniform[: len(left)].sum())
            left = np.delete(left, left == slates_BS[row, place])
    base = np.random.RandomState(SEED).normal(scale=5, size=(ACTIONS, ACTIONS))
    interaction_NN = np.tril(base) + np.tril(base).T - np.diag(base.diagonal())
    chance_BN = _base_chances(context_BF)
    chances_BS = place_chances(_read_by(chance_BN), slates_BS, interaction_NN)
    rewards_BS = np.stack([stream.binomial(n=1, p=chances_BS[:, place]) for place in range(PLACES)], axis=1)
    return SyntheticSlates(
        context_BF=context_BF,
        chance_BN=chance_BN,
        slates_BS=slates_BS,
        rewards_BS=rewards_BS.astype(np.float64),
        interaction_NN=interaction_NN,
    )


def place_chances(chance_BN: Float64Array, slates_BS: IntArray, interaction_NN: Float64Array) -> Float64Array:
    """Return the reward chance at each place; logits are kept in half precision, as there."""
    logit_BN = np.log(chance_BN) - np.log1p(-chance_BN)
    logits_BS = np.zeros(slates_BS.shape, np.float16)
    for place in range(PLACES):
        own_B = np.take_along_axis(logit_BN, slates_BS[:, place : place + 1], axis=1)[:, 0]
        for above in range(place):
            own_B = own_B + interaction_NN[slates_BS[:, place], slates_BS[:, above]]
        logits_BS[:, place] = own_B
    return np.asarray(np.exp(np.minimum(logits_BS, 0)) / (1 + np.exp(-np.abs(logits_BS))), np.float64)


def true_value(log: SyntheticSlates, slate_weights: Float64Array) -> float:
    """Return the expected reward per slate of the Plackett-Luce policy with these weights, over all 720 slates.

    Shape:
        slate_weights: (requests, actions), positive.
    """
    total = 0.0
    for rows in np.array_split(np.arange(len(slate_weights)), THIRDS):
        chance_BN = _read_by(_base_chances(log.context_BF[rows]))
        weights_BN = slate_weights[rows]
        left_B = weights_BN.sum(axis=1)
        for order in permutations(range(ACTIONS), PLACES):
            first, second, third = (weights_BN[:, action] for action in order)
            drawn_B = first / left_B * second / (left_B - first) * third / (left_B - first - second)
            slates_BS = np.broadcast_to(np.array(order), (len(rows), PLACES))
            total += float(drawn_B @ place_chances(chance_BN, slates_BS, log.interaction_NN).sum(axis=1))
    return total / len(slate_weights)


def _read_by(chance_BN: Float64Array) -> Float64Array:
    """Return for each request the chances its reward is made from: those of request i // 3."""
    return chance_BN[np.arange(len(chance_BN)) // PLACES]


def _base_chances(context_BF: Float64Array) -> Float64Array:
    """Return the logistic reward function of obp 0.5.4: linear in context, action and their product, z-scored."""
    stream = np.random.RandomState(SEED)
    design_BF = np.concatenate([np.ones((len(context_BF), 1)), context_BF], axis=1)
    actions_NF = np.concatenate([np.ones((ACTIONS, 1)), np.eye(ACTIONS)], axis=1)
    of_context = stream.uniform(-1, 1, size=design_BF.shape[1])
    of_action = stream.uniform(-1, 1, size=actions_NF.shape[1])
    of_both = stream.uniform(-1, 1, size=(design_BF.shape[1], actions_NF.shape[1]))
    values_BN = (design_BF @ of_context)[:, None] + actions_NF @ of_action + design_BF @ of_both @ actions_NF.T
    values_BN = (values_BN - values_BN.mean()) / values_BN.std()
    return np.asarray(np.exp(np.minimum(values_BN, 0)) / (1 + np.exp(-np.abs(values_BN))))
