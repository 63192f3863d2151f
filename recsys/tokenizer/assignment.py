"""Owns who gets which codes: items with all codes equal are moved apart at the least price.

Axes: N item, R colliding item, M codebook, K code.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from recsys.core.arrays import FloatArray, IntArray

_CHUNK = 512
_PAIR_CANDIDATES = 64

Distances = Callable[[IntArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Codes after resolution and what it cost.

    ``moved`` items left their nearest codes, at ``price``, the mean increase of an item's summed (squared) distance;
    ``left`` items still share all codes because nothing near was free.

    Shape:
        codes_NM: (items, codebooks) int64.
    """

    codes_NM: IntArray
    moved: int
    price: float
    left: int


def resolve_collisions(
    distances: FloatArray | Distances, codes_NM: IntArray, taken: IntArray | None = None
) -> Resolution:
    """Give items that share all codes a path of their own, deterministically.

    In a group the item nearest to its codewords keeps them; every other one takes the cheapest free path that
    differs in one code, else in two. Paths in ``taken`` (and every path some item holds) are never given away.

    Args:
        distances: (items, codebooks, codes), or a function from row numbers to those rows,
            asked for colliding rows only.
        codes_NM: the nearest codes.
        taken: paths of other items.
    """
    ask: Distances = distances if callable(distances) else distances.__getitem__
    result_NM = codes_NM.astype(np.int64, copy=True)
    powers_M, taken_keys = _powers(codes_NM, taken), set()
    if taken is not None:
        taken_keys = set(taken.astype(object) @ powers_M)
    keys_N = codes_NM.astype(object) @ powers_M
    occupied = taken_keys | set(keys_N)
    prices: list[float] = []
    left = 0
    for rows_R, group_distances_RMK in _groups(codes_NM, keys_N, taken_keys, ask):
        own_RM = np.take_along_axis(group_distances_RMK, codes_NM[rows_R][:, :, None], axis=2)[:, :, 0]
        order_R = np.argsort(own_RM.sum(axis=1), kind="stable")
        keeper_stays = keys_N[rows_R[0]] not in taken_keys
        for place in order_R[1 if keeper_stays else 0 :]:
            row = int(rows_R[place])
            rises_MK = group_distances_RMK[place] - own_RM[place][:, None]
            change = _cheapest(rises_MK, codes_NM[row], keys_N[row], powers_M, occupied)
            if change is None:
                left += 1
                continue
            for book, code in change:
                result_NM[row, book] = code
            occupied.add(result_NM[row].astype(object) @ powers_M)
            prices.append(sum(float(rises_MK[book, code]) for book, code in change))
    return Resolution(codes_NM=result_NM, moved=len(prices), price=float(np.mean(prices or [0.0])), left=left)


def _powers(codes_NM: IntArray, taken: IntArray | None) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    """Return the weights that make a path one exact (unbounded) integer, larger than any code that can come."""
    base = 1 << 32
    if taken is not None and taken.shape[1] != codes_NM.shape[1]:
        raise ValueError(
            f"taken paths must have {codes_NM.shape[1]} codes, got {taken.shape[1]}; use one tokenizer's codes"
        )
    return np.array([base**book for book in range(codes_NM.shape[1])], dtype=object)


def _groups(
    codes_NM: IntArray, keys_N: IntArray, taken_keys: set[int], ask: Distances
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Yield the rows of each colliding group and their distances, groups in the order of their first item."""
    members: dict[int, list[int]] = {}
    _, inverse_N, counts_X = np.unique(codes_NM, axis=0, return_inverse=True, return_counts=True)
    shared_N = counts_X[inverse_N.reshape(-1)] > 1
    for row in range(len(codes_NM)) if taken_keys else np.flatnonzero(shared_N):
        if shared_N[row] or keys_N[row] in taken_keys:
            members.setdefault(keys_N[row], []).append(int(row))
    batch: list[list[int]] = []
    for group in members.values():
        batch.append(group)
        if sum(map(len, batch)) >= _CHUNK:
            yield from _asked(batch, ask)
            batch = []
    yield from _asked(batch, ask)


def _asked(batch: list[list[int]], ask: Distances) -> Iterator[tuple[IntArray, FloatArray]]:
    if not batch:
        return
    distances_RMK = ask(np.array([row for group in batch for row in group], np.int64))
    stop = 0
    for group in batch:
        start, stop = stop, stop + len(group)
        yield np.array(group, np.int64), distances_RMK[start:stop]


def _cheapest(
    rises_MK: FloatArray,
    codes_M: IntArray,
    key: int,
    powers_M: "np.ndarray[tuple[int], np.dtype[np.object_]]",
    occupied: set[int],
) -> tuple[tuple[int, int], ...] | None:
    """Return the cheapest one or two (codebook, code) changes that lead to a free path, or None."""
    num_codes = rises_MK.shape[1]
    singles: list[tuple[int, int]] = []
    for flat in np.argsort(rises_MK, axis=None, kind="stable"):
        book, code = divmod(int(flat), num_codes)
        if code == codes_M[book]:
            continue
        if key + (code - int(codes_M[book])) * powers_M[book] not in occupied:
            return ((book, code),)
        singles.append((book, code))
    pairs = [pair for pair in combinations(singles[:_PAIR_CANDIDATES], 2) if pair[0][0] != pair[1][0]]
    for pair in sorted(pairs, key=lambda pair: float(rises_MK[pair[0]] + rises_MK[pair[1]])):
        moved = key + sum((code - int(codes_M[book])) * powers_M[book] for book, code in pair)
        if moved not in occupied:
            return pair
    return None
