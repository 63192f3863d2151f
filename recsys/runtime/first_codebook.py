"""The codebook in which the paths of a row begin: the one whose best codes, one a path, hold the most probability.

Axes: M codebook, K code, N item, C item of a list.
"""

import numpy as np

from recsys.core.arrays import BoolArray, Float64Array, IntArray
from recsys.runtime.compiled import kernel
from recsys.runtime.path_kernels import NEAR, Codes, CodeTable

_MINOR = 0.1
"""Items of less than this share of an even probability are summed only for the codebooks that they can decide."""
_FEW = 0.25
"""Where more than this share of all items is not minor, all are summed at once."""


def first_codebook(prob_N: Float64Array, table: CodeTable, open_M: BoolArray, width: int) -> int:
    """Return the first open codebook whose best codes, so many, hold the most probability.

    Where few items hold most of the probability the others wait: a codebook's best codes hold at most what all of those
    add, so most codebooks are out before.

    Shape:
        prob_N: (items,) sums to one. open_M: (codebooks,) which codebooks paths may take.
    """
    is_minor_N = prob_N < _MINOR / len(prob_N)
    major_C = np.flatnonzero(~is_minor_N)
    if len(major_C) > _FEW * len(prob_N):
        held_M = np.where(open_M, _of_best_codes(_all_token_mass(prob_N, table), width), -np.inf)
        return _first_of_most(held_M)
    mass_MK = _token_mass(major_C, prob_N, table)
    minor_C = np.flatnonzero(is_minor_N & (prob_N > 0))
    held_M = np.where(open_M, _of_best_codes(mass_MK, width), -np.inf)
    undecided = np.flatnonzero(held_M + prob_N[minor_C].sum() >= held_M.max() * (1 - NEAR))
    for book in undecided.tolist():
        _add_mass(mass_MK[book], minor_C, prob_N, table.codes_MN[book])
    held_M[undecided] = _of_best_codes(mass_MK[undecided], width)
    return _first_of_most(held_M)


def compile_sums(table: CodeTable) -> None:
    """Call every kernel that :func:`first_codebook` may need, so that no request waits until one is compiled."""
    item_C, prob_N = np.zeros(1, np.int64), np.zeros(len(table.codes_NM))
    mass_MK = _token_mass(item_C, prob_N, table)
    _add_mass(mass_MK[0], item_C, prob_N, table.codes_MN[0])
    _all_token_mass(prob_N, table)


def _first_of_most(held_M: Float64Array) -> int:
    """Return the first of the codebooks that hold the most, to rounding."""
    return int(np.argmax(held_M >= held_M.max() * (1 - NEAR)))


def _of_best_codes(mass_MK: Float64Array, width: int) -> Float64Array:
    """Return the sum of each codebook's largest probabilities, so many, (codebooks,)."""
    first = mass_MK.shape[1] - width
    return np.asarray(np.partition(mass_MK, first, axis=1)[:, first:].sum(axis=1))


@kernel
def _token_mass(items_C: IntArray, prob_N: Float64Array, table: CodeTable) -> Float64Array:
    """Return the probability of the given items with each code, (codebooks, codes)."""
    books = table.codes_NM.shape[1]
    mass_MK = np.zeros((books, table.codebook_size), np.float64)
    for item in items_C:
        prob, code_M = prob_N[item], table.codes_NM[item]
        for book in range(books):
            mass_MK[book, code_M[book]] += prob
    return mass_MK


@kernel
def _all_token_mass(prob_N: Float64Array, table: CodeTable) -> Float64Array:
    """Return the probability of all items with each code, (codebooks, codes)."""
    books, items = table.codes_MN.shape
    mass_MK = np.zeros((books, table.codebook_size), np.float64)
    fours = books - books % 4
    for book in range(0, fours, 4):  # four at once: a probability is read a fourth as often, and sums stay near
        first_K, second_K, third_K, fourth_K = mass_MK[book], mass_MK[book + 1], mass_MK[book + 2], mass_MK[book + 3]
        first_N, second_N = table.codes_MN[book], table.codes_MN[book + 1]
        third_N, fourth_N = table.codes_MN[book + 2], table.codes_MN[book + 3]
        for item in range(items):
            prob = prob_N[item]
            first_K[first_N[item]] += prob
            second_K[second_N[item]] += prob
            third_K[third_N[item]] += prob
            fourth_K[fourth_N[item]] += prob
    for book in range(fours, books):
        _add_mass(mass_MK[book], np.arange(items), prob_N, table.codes_MN[book])
    return mass_MK


@kernel
def _add_mass(mass_K: Float64Array, items_C: IntArray, prob_N: Float64Array, code_N: Codes) -> None:
    """Add the probability of items to that of their codes."""
    for item in items_C:
        mass_K[code_N[item]] += prob_N[item]
