"""Reading item vectors: in blocks of fixed size, checked block by block, never copied whole.

Axes: N item, B item of one block, F feature.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from recsys.core.arrays import FloatArray
from recsys.core.errors import DataError
from recsys.core.seeds import rng_for

BLOCK = 8192


def slices(vectors_NF: FloatArray) -> Iterator[FloatArray]:
    """Yield an array or memory map in views of at most ``BLOCK`` rows."""
    for start in range(0, len(vectors_NF), BLOCK):
        yield vectors_NF[start : start + BLOCK]


def blocks(chunks: Iterable[FloatArray], num_features: int) -> Iterator[FloatArray]:
    """Yield the rows of all chunks in finite float32 blocks of ``BLOCK`` rows, whatever the sizes of the chunks.

    Fixed blocks make a result depend on the rows alone: matrix products round differently for other sizes.

    Raises:
        DataError: a vector is not finite; names its row, counted over all chunks.
    """
    waiting: list[FloatArray] = []
    held = first = 0
    for chunk_NF in chunks:
        require_shape(chunk_NF, num_features)
        start = 0
        while start < len(chunk_NF):
            piece_NF = chunk_NF[start : start + BLOCK - held]
            waiting.append(piece_NF)
            held, start = held + len(piece_NF), start + len(piece_NF)
            if held == BLOCK:
                yield finite(waiting[0] if len(waiting) == 1 else np.concatenate(waiting), first)
                first, held, waiting = first + BLOCK, 0, []
    if held:
        yield finite(np.concatenate(waiting), first)


def finite(block_BF: FloatArray, first: int = 0) -> FloatArray:
    """Return a block as float32 that torch can take: contiguous, and writable, as read-only maps are not.

    Raises:
        DataError: a value is not finite or too large for float32; names the row, counted from ``first``.
    """
    with np.errstate(over="ignore"):
        result_BF = np.require(block_BF, np.float32, ["C_CONTIGUOUS", "WRITEABLE"])
    good_B = np.isfinite(result_BF).all(axis=1)
    if not good_B.all():
        row = first + int(np.flatnonzero(~good_B)[0])
        raise DataError(f"item vectors must be finite, got NaN or infinity in row {row}; repair that item's features")
    return result_BF


def require_shape(vectors_NF: FloatArray, num_features: int) -> None:
    """Hold vectors against the width a tokenizer takes."""
    if vectors_NF.ndim != 2 or vectors_NF.shape[1] != num_features:
        raise ValueError(
            f"vectors must have shape (items, {num_features}), got {vectors_NF.shape}; "
            f"pass the vectors this tokenizer was made for"
        )


def sample(vectors_NF: FloatArray, size: int, seed: int) -> FloatArray:
    """Return at most ``size`` rows in their order, drawn by the seed; every row is checked, drawn or not.

    Raises:
        DataError: there is no vector, or one is not finite.
    """
    if vectors_NF.ndim != 2:
        raise ValueError(f"vectors must have shape (items, features), got {vectors_NF.shape}; pass one row an item")
    if 0 in vectors_NF.shape:
        raise DataError(f"items to fit a tokenizer on must be at least one, got shape {vectors_NF.shape}; import items")
    count = min(size, len(vectors_NF))
    drawn_N = np.ones(len(vectors_NF), bool)
    if count < len(vectors_NF):
        drawn_N[:] = False
        drawn_N[rng_for(seed, "tokenizer", "sample").choice(len(vectors_NF), count, replace=False)] = True
    result_NF = np.empty((count, vectors_NF.shape[1]), np.float32)
    start = filled = 0
    for block_BF in blocks(slices(vectors_NF), vectors_NF.shape[1]):
        kept_BF = block_BF[drawn_N[start : start + len(block_BF)]]
        result_NF[filled : filled + len(kept_BF)] = kept_BF
        start, filled = start + len(block_BF), filled + len(kept_BF)
    return result_NF
