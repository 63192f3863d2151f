"""Logs with known truth: few kinds of contexts, so that a policy's value is an exact sum.

Axes: B logged request, X kind of context, N item, S place in the slate, O ordered slate.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
from scipy.special import softmax

from recsys.core.arrays import Float64Array, IntArray
from recsys.evaluation.off_policy.plackett_luce import next_propensities


@dataclass(frozen=True, kw_only=True)
class BanditWorld:
    """Contexts, the chance that each item is rewarded in each, and the two policies.

    Shape:
        chance_XN, logging_XN, target_XN: (contexts, items), the policies' rows sum to one.
    """

    chance_XN: Float64Array
    logging_XN: Float64Array
    target_XN: Float64Array

    @property
    def truth(self) -> float:
        """The target's expected reward per request."""
        return float((self.target_XN * self.chance_XN).sum(axis=1).mean())

    def log(self, requests: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, Float64Array]:
        """Draw contexts, items of the logging policy and rewards; each has the shape (requests,)."""
        contexts_B = rng.integers(len(self.chance_XN), size=requests)
        cumulative_BN = self.logging_XN[contexts_B].cumsum(axis=1)
        items_B = (rng.random((requests, 1)) < cumulative_BN).argmax(axis=1)
        rewards_B = (rng.random(requests) < self.chance_XN[contexts_B, items_B]).astype(np.float64)
        return contexts_B, items_B, rewards_B


def bandit_world(
    *, contexts: int = 8, items: int = 12, sharpness: float = 1.0, overlap: bool = True, seed: int
) -> BanditWorld:
    """Make a world whose policies are softmaxes of noisy guesses at the chances; without overlap they share no item."""
    rng = np.random.default_rng(seed)
    chance_XN = rng.beta(2, 5, (contexts, items))
    logging_XN = softmax(sharpness * rng.normal(size=(contexts, items)), axis=1)
    target_XN = softmax(sharpness * rng.normal(size=(contexts, items)) + 2 * chance_XN, axis=1)
    if not overlap:
        half = items // 2
        logging_XN[:, half:] = 0
        target_XN[:, :half] = 0
        logging_XN /= logging_XN.sum(axis=1, keepdims=True)
        target_XN /= target_XN.sum(axis=1, keepdims=True)
    return BanditWorld(chance_XN=chance_XN, logging_XN=logging_XN, target_XN=target_XN)


@dataclass(frozen=True, kw_only=True)
class SlateLog:
    """Slates drawn by a logging policy, their rewards, and both policies' probabilities.

    Shape:
        slates_BS, rewards_BS: (requests, places).
        logging_BS, target_BS: (requests, places) probability of the first items of the slate, down to the place.
        weights_BS: (requests, places) ratio of the probabilities of the item at its place, over all slates.
    """

    slates_BS: IntArray
    rewards_BS: Float64Array
    logging_BS: Float64Array
    target_BS: Float64Array
    weights_BS: Float64Array


@dataclass(frozen=True, kw_only=True)
class SlateWorld:
    """Two Plackett-Luce policies; an item's reward chance falls with each item above it that is like it.

    Shape:
        chance_N, logging_N, target_N: (items,). like_NN: (items, items), how much the column's item above hurts.
    """

    chance_N: Float64Array
    logging_N: Float64Array
    target_N: Float64Array
    like_NN: Float64Array
    places: int

    @cached_property
    def orders_OS(self) -> IntArray:
        """Every ordered slate, shape (slates, places)."""
        return np.array(list(permutations(range(len(self.chance_N)), self.places)))

    @cached_property
    def chances_OS(self) -> Float64Array:
        """The reward chance at each place of every ordered slate."""
        hurt_OS = np.zeros(self.orders_OS.shape)
        for place in range(self.places):
            for above in range(place):
                hurt_OS[:, place] += self.like_NN[self.orders_OS[:, place], self.orders_OS[:, above]]
        return np.asarray(self.chance_N[self.orders_OS] * np.exp(-hurt_OS))

    def prefixes_OS(self, weights_N: Float64Array) -> Float64Array:
        """Return the probability of the first items of every ordered slate under a policy, down to each place."""
        return np.stack([next_propensities(weights_N, slate_S).cumprod() for slate_S in self.orders_OS])

    @property
    def truth(self) -> float:
        """The target's expected reward per slate, over all ordered slates."""
        return float(self.prefixes_OS(self.target_N)[:, -1] @ self.chances_OS.sum(axis=1))

    def log(self, requests: int, rng: np.random.Generator) -> SlateLog:
        """Draw slates and rewards."""
        logging_OS, target_OS = self._policies
        drawn_B = rng.choice(len(self.orders_OS), size=requests, p=logging_OS[:, -1] / logging_OS[:, -1].sum())
        chances_BS = self.chances_OS[drawn_B]
        slates_BS = self.orders_OS[drawn_B]
        places_S = np.arange(self.places)
        place_NS = [self._at_place(policy_OS[:, -1]) for policy_OS in (logging_OS, target_OS)]
        return SlateLog(
            slates_BS=slates_BS,
            rewards_BS=(rng.random(chances_BS.shape) < chances_BS).astype(np.float64),
            logging_BS=logging_OS[drawn_B],
            target_BS=target_OS[drawn_B],
            weights_BS=place_NS[1][slates_BS, places_S] / place_NS[0][slates_BS, places_S],
        )

    @cached_property
    def _policies(self) -> tuple[Float64Array, Float64Array]:
        return self.prefixes_OS(self.logging_N), self.prefixes_OS(self.target_N)

    def _at_place(self, chance_O: Float64Array) -> Float64Array:
        """Return the probability of each item at each place, shape (items, places)."""
        place_NS = np.zeros((len(self.chance_N), self.places))
        for place in range(self.places):
            np.add.at(place_NS[:, place], self.orders_OS[:, place], chance_O)
        return place_NS


def slate_world(*, items: int = 6, places: int = 3, interaction: float = 1.0, seed: int) -> SlateWorld:
    """Make a world of slates; without interaction a place's reward depends on its own item alone."""
    rng = np.random.default_rng(seed)
    return SlateWorld(
        chance_N=rng.uniform(0.1, 0.9, items),
        logging_N=np.exp(rng.normal(0, 0.5, items)),
        target_N=np.exp(rng.normal(0, 0.5, items)),
        like_NN=interaction * rng.uniform(0, 1, (items, items)) * (1 - np.eye(items)),
        places=places,
    )
