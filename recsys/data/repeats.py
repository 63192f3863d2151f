"""Finds rows of a log that repeat an earlier one, in memory that is a small multiple of one column.

Axes: E row, X row that may repeat another.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.core.arrays import BoolArray, IntArray
from recsys.data.columns import codes_of

_FACTOR = 0x9E3779B97F4A7C15
"""The odd number nearest 2**64 over the golden ratio: multiples of it spread over all 64 bits (Knuth, TAOCP 6.4)."""
_SHIFT = 29
_PIECE = 1 << 20


def repeated(key: list[pa.ChunkedArray | pa.Array]) -> BoolArray:
    """Return which rows repeat an earlier row in all columns of the key; shape (rows,) bool.

    Only rows that share a hash with another are compared, for rows of unequal hashes differ.
    """
    columns = [pa.chunked_array([column]) if isinstance(column, pa.Array) else column for column in key]
    found_X = _sharing(_hashes(columns))
    again_E = np.zeros(len(columns[0]), dtype=np.bool_)
    if len(found_X):
        again_E[found_X[_repeated_exactly([codes_of(column.take(pa.array(found_X))) for column in columns])]] = True
    return again_E


def _hashes(columns: list[pa.ChunkedArray]) -> NDArray[np.uint64]:
    """Return a hash of each row; rows that are equal in all columns have equal ones; shape (rows,)."""
    hash_E = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        whole = pa.types.is_int64(column.type) and not column.null_count
        start = 0
        for values_E in _pieces(column.chunks if whole else [pa.array(codes_of(column))]):
            piece_E = hash_E[start : start + len(values_E)]
            piece_E ^= values_E.view(np.uint64)
            piece_E *= np.uint64(_FACTOR)
            piece_E ^= piece_E >> np.uint64(_SHIFT)
            start += len(values_E)
    return hash_E


def _pieces(chunks: Iterable[pa.Array]) -> Iterator[IntArray]:
    """Yield the values of chunks, at most :data:`_PIECE` at a time."""
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE):
            yield chunk.slice(start, _PIECE).to_numpy()


def _sharing(hash_E: NDArray[np.uint64]) -> IntArray:
    """Return the places, in order, of those whose hash another has."""
    sorted_E = np.sort(hash_E)
    twice_X = np.unique(sorted_E[1:][sorted_E[1:] == sorted_E[:-1]])
    if not len(twice_X):
        return np.zeros(0, dtype=np.int64)
    del sorted_E
    place_E = np.minimum(np.searchsorted(twice_X, hash_E), len(twice_X) - 1)
    return np.flatnonzero(twice_X[place_E] == hash_E)


def _repeated_exactly(keys: list[IntArray]) -> BoolArray:
    """Return which rows repeat an earlier one, by a stable sort of all keys; shape (rows,)."""
    by_X = np.lexsort(keys)
    same_X = np.ones(max(len(by_X) - 1, 0), dtype=np.bool_)
    for codes_X in keys:
        same_X &= codes_X[by_X][1:] == codes_X[by_X][:-1]
    again_X = np.zeros(len(by_X), dtype=np.bool_)
    again_X[by_X[1:]] = same_X
    return again_X
