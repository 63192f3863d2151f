"""Collisions: items whose codes are all equal are told apart by the cheapest next-best code.

Axes: N item, M codebook, K code, R row (an item that has to move).
"""

from collections.abc import Callable

import numpy as np

from recsys.core.arrays import FloatArray, IntArray

NEXT_BEST = 8
"""How many next-best codes of each codebook are tried before two codes are changed at once."""


def resolve_collisions(
    codes_NM: IntArray, distances_of: Callable[[IntArray], FloatArray], *, taken_NM: IntArray | None = None
) -> IntArray:
    """Return codes with as few equal tuples as single and double next-best changes can reach.

    Of a group with equal codes the item nearest to its codewords keeps them; every other takes the change that adds
    least distance and gives a free tuple. Items that find none keep their codes: both stay and share a path.

    Args:
        codes_NM: (items, codebooks) nearest codes.
        distances_of: item rows to (rows, codebooks, codes) distances; asked for colliding items only.
        taken_NM: tuples of other items, never handed out again.
    """
    taken = {tuple(row) for row in (taken_NM if taken_NM is not None else codes_NM[:0])}
    _, group_N, size_G = np.unique(codes_NM, axis=0, return_inverse=True, return_counts=True)
    group_N = group_N.reshape(-1)
    clashing = np.array([tuple(row) in taken for row in codes_NM]) if taken else np.zeros(len(codes_NM), bool)
    moving_R = np.flatnonzero((size_G[group_N] > 1) | clashing)
    if len(moving_R) == 0:
        return codes_NM
    distances_RMK = distances_of(moving_R)
    own_R = np.take_along_axis(distances_RMK, codes_NM[moving_R][..., None], axis=2).sum((1, 2))
    used = taken | {tuple(row) for row in np.delete(codes_NM, moving_R, axis=0)}
    out_NM = codes_NM.copy()
    for place in np.lexsort((moving_R, own_R)):
        row = moving_R[place]
        found = _cheapest_free(tuple(codes_NM[row]), distances_RMK[place], used)
        out_NM[row] = found
        used.add(found)
    return out_NM


def _cheapest_free(codes: tuple[int, ...], distances_MK: FloatArray, used: set[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the free tuple that adds least distance by changing at most two codes; the tuple itself if none is."""
    if codes not in used:
        return codes
    near_MK = np.argsort(distances_MK, axis=1, kind="stable")[:, : NEXT_BEST + 1]
    singles = [
        (float(distances_MK[book, code] - distances_MK[book, codes[book]]), book, int(code))
        for book, near in enumerate(near_MK)
        for code in near
        if code != codes[book]
    ]
    singles.sort()
    for _, book, code in singles:
        changed = _with(codes, book, code)
        if changed not in used:
            return changed
    doubles = sorted((a[0] + b[0], a, b) for a in singles for b in singles if a[1] < b[1])
    for _, a, b in doubles:
        changed = _with(_with(codes, a[1], a[2]), b[1], b[2])
        if changed not in used:
            return changed
    return codes


def _with(codes: tuple[int, ...], book: int, code: int) -> tuple[int, ...]:
    return (*codes[:book], code, *codes[book + 1 :])
