"""Resolves collisions: items with all codes equal are given other codes at the least cost.

Axes: N item, X colliding item, M codebook, K code, Y change of one code (M x K, flat).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.core.arrays import BoolArray, FloatArray, IntArray

_PAIR_CANDIDATES = 64
_VALUES_AT_ONCE = 2**23
_MASK = (1 << 64) - 1

Distances = Callable[[IntArray], FloatArray]
HashArray = NDArray[np.uint64]
Change = tuple[int, ...]


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
    distances: FloatArray | Distances,
    codes_NM: IntArray,
    taken: IntArray | None = None,
    *,
    codebook_size: int | None = None,
) -> Resolution:
    """Give items that share all codes a path of their own, deterministically.

    In a group the item nearest to its codewords keeps them; every other one takes the cheapest free path that
    differs in one code, else in two. Paths in ``taken`` (and every path some item holds) are never given away.

    Paths are known by a 64-bit hash. Two paths of one hash (odds 3e-8 among a million items) cost an item a free path
    that it passes over; they never make two items share one.

    Args:
        distances: (items, codebooks, codes), or a function from row numbers to those rows,
            called for colliding rows only.
        codes_NM: the nearest codes.
        taken: paths of other items.
        codebook_size: codes in a codebook, needed where ``distances`` is a function, called in pieces that fit memory.
    """
    if taken is not None and taken.shape[1] != codes_NM.shape[1]:
        raise ValueError(
            f"taken paths must have {codes_NM.shape[1]} codes, got {taken.shape[1]}; use one tokenizer's codes"
        )
    distances_of: Distances = distances if callable(distances) else distances.__getitem__
    codes_NM = codes_NM.astype(np.int64, copy=False)
    hash_N = _hashes(codes_NM)
    taken_hashes = set() if taken is None else set(_hashes(taken.astype(np.int64)).tolist())
    occupied = taken_hashes | set(hash_N.tolist())
    result_NM, prices, left = codes_NM.copy(), [], 0
    limit = max(1, _VALUES_AT_ONCE // (codes_NM.shape[1] * (codebook_size or 256)))
    for rows_X, rises in _visits(_groups(codes_NM, hash_N, taken_hashes), codes_NM, distances_of, limit):
        group = _Group(codes_NM[rows_X[0]], int(hash_N[rows_X[0]]), occupied)
        stays = int(hash_N[rows_X[0]]) not in taken_hashes
        for place, (row, rise_MK) in enumerate(rises):
            if place == 0 and stays:
                continue
            change = group.take_cheapest(rise_MK)
            left += not change
            for flat in change:
                result_NM[row, flat // rise_MK.shape[1]] = flat % rise_MK.shape[1]
            if change:
                prices.append(sum(float(rise_MK.flat[flat]) for flat in change))
    return Resolution(codes_NM=result_NM, moved=len(prices), price=float(np.mean(prices or [0.0])), left=left)


def _mix(values_X: HashArray) -> HashArray:
    """Return well-spread 64-bit numbers, one for each value (the finaliser of SplitMix64)."""
    mixed_X = values_X + np.uint64(0x9E3779B97F4A7C15)
    mixed_X = (mixed_X ^ (mixed_X >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed_X = (mixed_X ^ (mixed_X >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed_X ^ (mixed_X >> np.uint64(31))


def _marks(codes_X: IntArray, book: int) -> HashArray:
    """Return the share of a path's hash that comes from its code in one codebook."""
    return _mix(codes_X.astype(np.uint64) + np.array([book << 40], np.uint64))


def _hashes(codes_NM: IntArray) -> HashArray:
    """Return the hash of every path, the sum of its codes' marks, so that one changed code changes one summand."""
    hash_N = np.zeros(len(codes_NM), np.uint64)
    for book in range(codes_NM.shape[1]):
        hash_N += _marks(codes_NM[:, book], book)
    return hash_N


def _groups(codes_NM: IntArray, hash_N: HashArray, taken_hashes: set[int]) -> Iterator[IntArray]:
    """Yield the rows of each group to be moved apart, groups in the order of their first item."""
    _, inverse_N, counts_X = np.unique(hash_N, return_inverse=True, return_counts=True)
    crowded_N = counts_X[inverse_N] > 1
    if taken_hashes:
        crowded_N |= np.isin(hash_N, np.fromiter(taken_hashes, np.uint64, len(taken_hashes)))
    members: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(crowded_N):
        members.setdefault(codes_NM[row].tobytes(), []).append(int(row))
    for rows in members.values():
        if len(rows) > 1 or int(hash_N[rows[0]]) in taken_hashes:
            yield np.array(rows, np.int64)


def _visits(
    groups: Iterator[IntArray], codes_NM: IntArray, distances_of: Distances, limit: int
) -> Iterator[tuple[IntArray, Iterator[tuple[int, FloatArray]]]]:
    """Yield each group's rows, and its items with their rises, nearest first; small groups are computed together."""
    batch: list[IntArray] = []
    held = 0
    for rows_X in groups:
        if held + len(rows_X) > limit:
            yield from _small(batch, codes_NM, distances_of)
            batch, held = [], 0
        if len(rows_X) > limit:
            yield rows_X, _large(rows_X, codes_NM, distances_of, limit)
        else:
            batch.append(rows_X)
            held += len(rows_X)
    yield from _small(batch, codes_NM, distances_of)


def _small(
    batch: list[IntArray], codes_NM: IntArray, distances_of: Distances
) -> Iterator[tuple[IntArray, Iterator[tuple[int, FloatArray]]]]:
    if not batch:
        return
    distances_XMK = distances_of(np.concatenate(batch))
    stop = 0
    for rows_X in batch:
        start, stop = stop, stop + len(rows_X)
        own_XM = _own(distances_XMK[start:stop], codes_NM[rows_X])
        order_X = np.argsort(own_XM.sum(axis=1), kind="stable")
        pairs = [(int(rows_X[i]), distances_XMK[start + i] - own_XM[i][:, None]) for i in order_X]
        yield rows_X, iter(pairs)


def _large(
    rows_X: IntArray, codes_NM: IntArray, distances_of: Distances, limit: int
) -> Iterator[tuple[int, FloatArray]]:
    """Yield a group that is too large to be held: computed once for the order, then again in that order."""
    pieces = [rows_X[start : start + limit] for start in range(0, len(rows_X), limit)]
    total_X = np.concatenate([_own(distances_of(piece), codes_NM[piece]).sum(axis=1) for piece in pieces])
    ordered_X = rows_X[np.argsort(total_X, kind="stable")]
    for start in range(0, len(ordered_X), limit):
        piece = ordered_X[start : start + limit]
        distances_XMK = distances_of(piece)
        own_XM = _own(distances_XMK, codes_NM[piece])
        for place, row in enumerate(piece):
            yield int(row), distances_XMK[place] - own_XM[place][:, None]


def _own(distances_XMK: FloatArray, codes_XM: IntArray) -> FloatArray:
    own_XM: FloatArray = np.take_along_axis(distances_XMK, codes_XM[:, :, None], axis=2)[:, :, 0]
    return own_XM


@dataclass
class _Group:
    """What is known of the paths near one crowded path: later searches need not try again what was found taken."""

    codes_M: IntArray
    path_hash: int
    occupied: set[int]
    open_MK: BoolArray | None = None
    pairs: dict[bytes, Iterator[Change]] = field(default_factory=dict)

    def take_cheapest(self, rise_MK: FloatArray) -> Change:
        """Occupy the cheapest free path one or two changes away and return its changes (flat), or none."""
        if self.open_MK is None:
            self.open_MK = np.ones(rise_MK.shape, bool)
            self.open_MK[np.arange(len(self.codes_M)), self.codes_M] = False
        rise_Y = np.where(self.open_MK, rise_MK, np.inf).ravel()
        while np.isfinite(rise_Y[best := int(rise_Y.argmin())]):
            rise_Y[best] = np.inf
            self.open_MK.flat[best] = False
            if self._claim((best,), rise_MK.shape[1]):
                return (best,)
        key = rise_MK.tobytes()
        if key not in self.pairs:
            self.pairs[key] = self._pairs(rise_MK)
        return next((pair for pair in self.pairs[key] if self._claim(pair, rise_MK.shape[1])), ())

    def _claim(self, change: Change, num_codes: int) -> bool:
        path = self.path_hash
        for flat in change:
            book, code = divmod(flat, num_codes)
            before, after = _marks(np.array([self.codes_M[book], code]), book).tolist()
            path = (path - before + after) & _MASK
        if path in self.occupied:
            return False
        self.occupied.add(path)
        return True

    def _pairs(self, rise_MK: FloatArray) -> Iterator[Change]:
        """Yield pairs of the cheapest single changes in two codebooks, the cheapest pair first."""
        rise_Y = rise_MK.ravel().copy()
        rise_Y[np.arange(len(self.codes_M)) * rise_MK.shape[1] + self.codes_M] = np.inf
        near_Y = np.argsort(rise_Y, kind="stable")[:_PAIR_CANDIDATES]
        near_Y = near_Y[np.isfinite(rise_Y[near_Y])]
        first_X, second_X = np.triu_indices(len(near_Y), 1)
        apart_X = near_Y[first_X] // rise_MK.shape[1] != near_Y[second_X] // rise_MK.shape[1]
        first_X, second_X = near_Y[first_X[apart_X]], near_Y[second_X[apart_X]]
        for place in np.argsort(rise_Y[first_X] + rise_Y[second_X], kind="stable"):
            yield int(first_X[place]), int(second_X[place])
