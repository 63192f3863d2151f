"""Distributions over items, and what every search of paths over them shares: limits, open codebooks, the result.

Axes: B request, P path, M codebook, N item.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import BoolArray, Float64Array, FloatArray, IntArray
from recsys.core.errors import DecodingError
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.evidence import Cut, UnlikelyPaths
from recsys.decoding.paths import Beam
from recsys.decoding.reasoning_pruning import LowerPart, likely_paths

LOWEST_SCORE = np.float32(-1e30)
"""What lower log-probabilities and scores count as, those of probability 0 included."""


@dataclass(frozen=True, kw_only=True)
class Categories:
    """The category of every item, for the check of jumps.

    Shape:
        category_N: (items,) from 0 to ``count`` - 1.
    """

    category_N: IntArray
    count: int


class PathSearch(Protocol):
    """One batch's search for the most probable paths."""

    index: ValidityIndex
    config: MarginalSearchConfig
    cuts: list[Cut | UnlikelyPaths]
    """The paths that were pruned, once it has run."""

    def run(self, row_P: IntArray, eligible_PN: BoolArray | None) -> Beam:
        """Return the finished paths of the rows, at most ``num_paths`` each."""
        ...


class Searcher(Protocol):
    """Makes the search of a batch from the probabilities of its items, as :class:`MarginalSearch` does."""

    def __call__(
        self,
        index: ValidityIndex,
        prob_BN: Float64Array,
        config: MarginalSearchConfig,
        *,
        categories: Categories | None = None,
    ) -> PathSearch:
        """Return a search that has not run."""
        ...


def bounded(scores_BN: FloatArray, what: str) -> FloatArray:
    """Return scores, none below the lowest that sums can bear, so that an item is ranked even where it is improbable.

    Shape:
        scores_BN, result: (rows, items).

    Raises:
        DecodingError: a score is NaN or plus infinity.
    """
    if scores_BN.size and not scores_BN.max() < np.inf:  # a NaN is the largest of all, and not below infinity
        raise DecodingError(f"{what} must be numbers, got NaN or infinity; check the model (diverged?)")
    return np.maximum(scores_BN, LOWEST_SCORE)


def item_probabilities(log_prob_BN: FloatArray, eligible_BN: BoolArray | None) -> Float64Array:
    """Return probabilities over eligible items, rows sum to one, or to zero where no item is eligible.

    Shape:
        log_prob_BN, eligible_BN, result: (rows, items).

    Raises:
        DecodingError: a log-probability is NaN or plus infinity.
    """
    masked_BN = bounded(log_prob_BN, "item log-probabilities").astype(np.float64)
    if eligible_BN is not None:
        masked_BN[~eligible_BN] = -np.inf
    best_B1 = masked_BN.max(axis=1, keepdims=True, initial=-np.inf)
    prob_BN = np.exp(masked_BN - np.where(np.isfinite(best_B1), best_B1, 0.0))
    return np.asarray(prob_BN / np.maximum(prob_BN.sum(axis=1, keepdims=True), 1e-300))


def paths_of(prob_BN: Float64Array, config: MarginalSearchConfig) -> IntArray:
    """Return how many paths each row gets: all the same, or by the perplexity of its distribution.

    Shape:
        prob_BN: (rows, items), rows sum to one; result: (rows,).
    """
    if config.fewest_paths is None:
        return np.full(len(prob_BN), config.num_paths)
    log_BN = np.log(prob_BN, out=np.zeros_like(prob_BN), where=prob_BN > 0)
    perplexity_B = np.exp(-(prob_BN * log_BN).sum(axis=1))
    wanted_B = np.ceil(perplexity_B / config.perplexity_per_path).astype(np.int64)
    return np.clip(wanted_B, min(config.fewest_paths, config.num_paths), config.num_paths)


def open_codebooks(config: MarginalSearchConfig, num_codebooks: int) -> BoolArray:
    """Return which codebooks paths may take, shape (codebooks,).

    Raises:
        DecodingError: one that the config names does not exist.
    """
    if unknown := [book for book in config.codebooks if not 0 <= book < num_codebooks]:
        raise DecodingError(f"codebooks of paths must be below {num_codebooks}, got {unknown}; name others")
    open_M = np.full(num_codebooks, not config.codebooks)
    open_M[list(config.codebooks)] = True
    return open_M


def likely_beam(
    beam: Beam, config: MarginalSearchConfig, lower_part: LowerPart | None = None
) -> tuple[Beam, list[UnlikelyPaths]]:
    """Return finished paths without those that Reasoning Pruning takes out (see :func:`likely_paths`), and those."""
    if config.pruning == "none":
        return beam, []
    keep_P = likely_paths(beam.row_P, beam.log_prob_P, config.pruning, lower_part)
    cut = UnlikelyPaths(beam=beam.take(np.flatnonzero(~keep_P)), rule=config.pruning)
    return beam.take(np.flatnonzero(keep_P)), [cut]
