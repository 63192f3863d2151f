"""Propensities of slates drawn by Plackett-Luce: items one after the other, each in proportion to its weight.

Drawing by Gumbel noise on scores / temperature and taking the largest is the same distribution. All functions take
the scores of the candidates and know no model.

Axes: N candidate item, S place in the slate.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from recsys.core.arrays import Float64Array, FloatArray, IntArray

MAX_EXACT_PLACES = 16
MAX_EXACT_SUBSETS = 4096
TIME_STEPS = 8001


@dataclass(frozen=True, kw_only=True)
class SetPropensity:
    """The probability that a slate holds just these items, in whatever order, and how it was computed."""

    value: float
    method: Literal["subset dynamic program", "integral"]


@dataclass(frozen=True, kw_only=True)
class PlacePropensities:
    """The probability of each item at its place, whatever stands elsewhere, and how it was computed.

    Shape:
        values_S: (places,).
    """

    values_S: Float64Array
    method: Literal["exact", "sampled"]


def weights_of(scores_N: FloatArray | Float64Array, *, temperature: float) -> Float64Array:
    """Return the Plackett-Luce weights exp(score / temperature), scaled so that the largest is 1.

    Shape:
        scores_N: (candidates,); minus infinity bars an item.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}; a policy without chance has no propensities")
    logits_N = np.asarray(scores_N, np.float64) / temperature
    return np.exp(logits_N - logits_N.max())


def draw_slate(weights_N: Float64Array, n: int, rng: np.random.Generator) -> IntArray:
    """Draw a slate of ``n`` distinct candidates, first place first, by adding Gumbel noise to log-weights."""
    with np.errstate(divide="ignore"):
        noisy_N = np.log(weights_N) + rng.gumbel(size=len(weights_N))
    return np.argsort(-noisy_N, kind="stable")[:n]


def next_propensities(weights_N: Float64Array, slate_S: IntArray) -> Float64Array:
    """Return the probability of each item given those above it; their product is the ordered slate's probability.

    With weights 3, 2, 1 the slate (0, 2) has 3 / 6 and then 1 / 3.

    Shape:
        slate_S: (places,) distinct candidates. Returns (places,).
    """
    chosen_S = weights_N[slate_S]
    above_S = np.concatenate([[0.0], np.cumsum(chosen_S)[:-1]])
    left_S = weights_N.sum() - above_S
    # the last candidates: rounding must not leave less than what is chosen
    return np.asarray(chosen_S / np.maximum(left_S, chosen_S))


def set_propensity(weights_N: Float64Array, slate_S: IntArray) -> SetPropensity:
    """Return the probability of the unordered slate, summed over all orders in which it can be drawn.

    Up to 16 places: f(A) = sum over i in A of f(A without i) * w_i / (W - w(A without i)) over all subsets A, 2^S
    steps instead of S! (arXiv 2605.29500). Beyond: each item rings after an exponential time of rate w_i, and the
    slate is drawn when all of it rings before any other item; this integral over one time is computed numerically.
    """
    chosen_S = weights_N[slate_S]
    total = float(weights_N.sum())
    if len(slate_S) <= MAX_EXACT_PLACES:
        return SetPropensity(value=_over_subsets(chosen_S, total), method="subset dynamic program")
    rest = total - float(chosen_S.sum())
    return SetPropensity(value=_over_time(chosen_S, rest), method="integral")


def _over_subsets(chosen_S: Float64Array, total: float) -> float:
    places = len(chosen_S)
    subsets = 1 << places
    held = np.zeros(subsets)
    for place in range(places):
        held[1 << place : 2 << place] = held[: 1 << place] + chosen_S[place]
    reached = np.zeros(subsets)
    reached[0] = 1.0
    for subset in range(subsets - 1):
        if reached[subset]:
            free = [place for place in range(places) if not subset >> place & 1]
            for place in free:
                left = max(total - held[subset], chosen_S[place])
                if left > 0:
                    reached[subset | 1 << place] += reached[subset] * chosen_S[place] / left
    return float(min(reached[-1], 1.0))


def _over_time(chosen_S: Float64Array, rest: float) -> float:
    if rest <= 0:
        return 1.0
    # the integral over log t of the density that some other item rings first, at t, after all of the slate
    log_t_T = np.linspace(-60.0, 8.0, TIME_STEPS) - np.log(rest)
    time_T = np.exp(log_t_T)
    density_T = np.log(rest) - rest * time_T + log_t_T
    with np.errstate(divide="ignore"):
        for weight in chosen_S:
            density_T += np.log(-np.expm1(-weight * time_T))
    return float(min(np.exp(density_T).sum() * (log_t_T[1] - log_t_T[0]), 1.0))


def place_propensities(
    weights_N: Float64Array, slate_S: IntArray, *, rng: np.random.Generator, samples: int = 2000
) -> PlacePropensities:
    """Return the probability that each item of the slate stands at its place, over all slates.

    Exact where the subsets that can stand above the last place are few, else averaged over sampled items above.
    """
    places, candidates = len(slate_S), int((weights_N > 0).sum())
    subsets = sum(_choose(candidates, size) for size in range(places))
    if places <= MAX_EXACT_PLACES and subsets <= MAX_EXACT_SUBSETS:
        return PlacePropensities(values_S=_places_exactly(weights_N, slate_S), method="exact")
    values_S = np.zeros(places)
    total = float(weights_N.sum())
    for _ in range(samples):
        above_S = draw_slate(weights_N, places, rng)
        for place, item in enumerate(slate_S.tolist()):
            if item not in above_S[:place]:
                left = total - float(weights_N[above_S[:place]].sum())
                values_S[place] += weights_N[item] / max(left, float(weights_N[item]))
    return PlacePropensities(values_S=values_S / samples, method="sampled")


def _places_exactly(weights_N: Float64Array, slate_S: IntArray) -> Float64Array:
    total = float(weights_N.sum())
    candidates = np.flatnonzero(weights_N > 0).tolist()
    values_S = np.zeros(len(slate_S))
    reached: dict[frozenset[int], float] = {frozenset(): 1.0}
    for place, item in enumerate(slate_S.tolist()):
        below: dict[frozenset[int], float] = {}
        for above in (frozenset(some) for some in combinations(candidates, place)):
            left = total - sum(float(weights_N[one]) for one in above)
            for one in candidates:
                if one in above:
                    continue
                chance = reached[above] * min(float(weights_N[one]) / left, 1.0) if left > 0 else reached[above]
                if one == item:
                    values_S[place] += chance
                longer = above | {one}
                below[longer] = below.get(longer, 0.0) + chance
        reached = below
    return values_S


def _choose(total: int, size: int) -> int:
    result = 1
    for step in range(size):
        result = result * (total - step) // (step + 1)
    return result
