"""Conditional probabilities of a code given the codes chosen so far, computed from item probabilities.

They are exact for every order of codebooks, and cost O(remaining items) a path and step.

Axes: P path, B request, C candidate (an item that remains on a path), M codebook, K code, N item.
"""

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import FloatArray
from recsys.decoding.paths import Beam

_FLOOR = 1e-30


def guided(logits_PMK: FloatArray, beam: Beam, index: ValidityIndex, head_BN: FloatArray, weight: float) -> FloatArray:
    """Return the weighted mean of the token heads' logits and the log of the item head's conditionals.

    Shape:
        logits_PMK, result: (paths, codebooks, codes).
        head_BN: (rows, items) log-probabilities of the item head.
    """
    implied_PMK = np.log(np.maximum(implied(beam, index, head_BN), _FLOOR))
    if weight == 1:
        return implied_PMK
    return np.asarray((1 - weight) * logits_PMK + weight * implied_PMK, np.float32)


def implied(beam: Beam, index: ValidityIndex, head_BN: FloatArray) -> FloatArray:
    """Return the probability of each code among a path's remaining items.

    Shape:
        result: (paths, codebooks, codes); sums to one over the codes of every codebook.
    """
    shape = (len(beam), index.num_codebooks, index.codebook_size)
    shares_PMK = np.empty(shape, np.float32)
    if beam.candidates.at_root:
        for path, row in enumerate(beam.row_P.tolist()):
            head_N = head_BN[row]
            if (eligible_PN := beam.candidates.root_PN) is not None:
                head_N = np.where(eligible_PN[path], head_N, -np.inf)
            mass_N = np.exp(head_N - head_N.max())
            for book, code_N in enumerate(index.codes_MN):
                shares_PMK[path, book] = np.bincount(code_N, weights=mass_N, minlength=shape[2])
    else:
        sizes_P, items_C = beam.candidates.sizes_P, beam.candidates.items_C
        path_C = np.repeat(np.arange(len(beam)), sizes_P)
        head_C = head_BN[beam.row_P[path_C], items_C]
        best_P = np.maximum.reduceat(head_C, beam.candidates.offsets_P1[:-1])
        mass_C = np.exp(head_C - best_P[path_C])
        for book, code_N in enumerate(index.codes_MN):
            place_C = path_C * shape[2] + code_N[items_C]
            sums = np.bincount(place_C, weights=mass_C, minlength=shape[0] * shape[2])
            shares_PMK[:, book] = sums.reshape(shape[0], shape[2])
    return shares_PMK / shares_PMK.sum(axis=-1, keepdims=True)
