"""The best items by sums of code logits: over all items, or over those that an upper bound leaves.

An item's score is the sum of its codes' logits, one a codebook, so a few codebooks bound it: what the others can add
is at most the sum of their largest logits.

Axes: M codebook, K code, N item, S slate position, X item that is still possible.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.core.arrays import FloatArray, IntArray

Codes = NDArray[np.integer]


def token_sums(codes_MN: Codes, logits_MK: FloatArray) -> FloatArray:
    """Return every item's sum of code logits, (items,).

    Shape:
        codes_MN: (codebooks, items); one byte a code is read fastest.
        logits_MK: (codebooks, codes).
    """
    total_N = np.zeros(codes_MN.shape[1], np.float32)
    for code_N, logit_K in zip(codes_MN, logits_MK, strict=True):
        total_N += np.take(logit_K, code_N)
    return total_N


def top_items(scores_N: FloatArray, n: int) -> IntArray:
    """Return the ``n`` items of the highest scores, best first, ties by index, (slate,)."""
    n = min(n, len(scores_N))
    if n == 0:
        return np.empty(0, np.int64)
    edge = np.partition(scores_N, len(scores_N) - n)[len(scores_N) - n]
    near = np.flatnonzero(scores_N >= edge)
    return near[np.argsort(-scores_N[near], kind="stable")[:n]]


def top_by_bounds(codes_MN: Codes, logits_MK: FloatArray, n: int) -> tuple[IntArray, FloatArray]:
    """Return the ``n`` best items and their scores, exactly, without finishing the sums of hopeless items.

    Codebooks are taken by the spread of their logits, widest first. After each, the ``n`` items of the highest partial
    sums are finished; the least of their scores is a floor, and items whose partial sum and the largest logits of all
    remaining codebooks stay below it are dropped. This is done whenever the number of codebooks taken has doubled.

    Shape:
        codes_MN: (codebooks, items). logits_MK: (codebooks, codes). result: (slate,) each.
    """
    order_M = np.argsort(logits_MK.min(axis=1) - logits_MK.max(axis=1), kind="stable")
    codes_MN, logits_MK = codes_MN[order_M], logits_MK[order_M].astype(np.float32)
    # what the codebooks from m on can add at most
    rest_M1 = np.append(np.cumsum(logits_MK.max(axis=1)[::-1])[::-1], 0).astype(np.float32)
    left_X: IntArray | None = None
    partial_X = np.zeros(codes_MN.shape[1], np.float32)
    check = 1
    for book, (code_N, logit_K) in enumerate(zip(codes_MN, logits_MK, strict=True)):
        partial_X += np.take(logit_K, code_N if left_X is None else code_N[left_X])
        if book + 1 < check or len(partial_X) <= n:
            continue
        check = 2 * (book + 1)
        best = top_items(partial_X, n)
        items = best if left_X is None else left_X[best]
        floor = (partial_X[best] + _rest(codes_MN[book + 1 :, items], logits_MK[book + 1 :])).min()
        slack = np.float32(1e-5) * (np.abs(floor) + np.abs(logits_MK).max() * len(logits_MK))  # sums are rounded
        kept = np.flatnonzero(partial_X + rest_M1[book + 1] >= floor - slack)
        left_X = kept if left_X is None else left_X[kept]
        partial_X = partial_X[kept]
    every_X = np.arange(len(partial_X)) if left_X is None else left_X
    best = top_items(partial_X, n)
    return every_X[best], partial_X[best]


def _rest(codes_MS: Codes, logits_MK: FloatArray) -> FloatArray:
    """Return what the remaining codebooks add to some items, (items,)."""
    if not len(codes_MS):
        return np.zeros(codes_MS.shape[1], np.float32)
    return np.take_along_axis(logits_MK, codes_MS.astype(np.int64), axis=1).sum(axis=0)
