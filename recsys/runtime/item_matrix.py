"""Products of a query with every item's vector, in whole numbers of 16 bits.

A vector is held as whole numbers times a unit of its own, of which its largest number has 32,767. Two neighbouring
products are summed in 32 bits, which always hold them, and these sums in float32. A number is off by at most half a
unit, so a product by about a ten-thousandth of what the lengths of both vectors multiply to at the most; equal vectors
have equal products. A matrix takes half the memory of float32, so what a request reads stays in the processor's cache.

Items stand in blocks of 64. In a block each pair of columns follows another, and of a pair the two numbers
of every item: one multiply-and-add instruction takes a pair of many items.

Axes: N item, D width.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from recsys.core.arrays import FloatArray
from recsys.runtime.compiled import aligned, kernel

_LARGEST = 32_767.0
"""The largest whole number: two products of such numbers are less than 2 to the 31st."""
_LANES, _ITEMS = 16, 64
_WORD, _LONG = ir.IntType(32), ir.IntType(64)
_PAIRS = ir.VectorType(ir.IntType(16), 2 * _LANES)
_PRODUCTS, _SUMS = ir.VectorType(_WORD, 2 * _LANES), ir.VectorType(_WORD, _LANES)
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)


class ItemMatrix(NamedTuple):
    """The vectors of all items.

    Shape:
        numbers_X: all blocks, each (columns / 2, 64 items, 2), one after another.
        unit_N: (items,) the scale of each item's whole numbers.
    """

    numbers_X: NDArray[np.int16]
    unit_N: FloatArray

    @classmethod
    def of(cls, vectors_ND: FloatArray) -> "ItemMatrix":
        """Return the matrix of some vectors.

        Shape:
            vectors_ND: (items, width).
        """
        items, width = vectors_ND.shape
        unit_N = unit_of(vectors_ND)
        blocks = -(-items // _ITEMS)
        numbers_ND = np.zeros((blocks * _ITEMS, width + width % 2), np.int16)
        numbers_ND[:items, :width] = np.rint(vectors_ND / np.where(unit_N > 0, unit_N, 1)[:, None])
        numbers_X = numbers_ND.reshape(blocks, _ITEMS, -1, 2).transpose(0, 2, 1, 3)
        return cls(numbers_X=aligned(np.ascontiguousarray(numbers_X)).ravel(), unit_N=unit_N)


def unit_of(vectors_ND: FloatArray) -> FloatArray:
    """Return the scale of each vector's whole numbers, (vectors,)."""
    return np.asarray(np.abs(vectors_ND).max(axis=1, initial=0) / _LARGEST, np.float32)


@kernel
def item_products(query_D: FloatArray, matrix: ItemMatrix) -> FloatArray:
    """Return the product of a query with every item's vector, (items,); none is a number where the query has none.

    Shape:
        query_D: (width,).
    """
    items, width = len(matrix.unit_N), len(query_D)
    width += width % 2
    numbers_D, unit = _whole_numbers(query_D, width)
    products_N = np.empty(items, np.float32)
    sums_N = np.empty(_ITEMS, np.float32)
    for first in range(0, items, _ITEMS):
        _block_products(matrix.numbers_X, first * width, numbers_D, width // 2, sums_N)
        for at in range(min(_ITEMS, items - first)):
            products_N[first + at] = sums_N[at] * (matrix.unit_N[first + at] * unit)
    return products_N


@kernel
def _whole_numbers(query_D: FloatArray, width: int) -> tuple[NDArray[np.int16], np.float32]:
    """Return a query's whole numbers, zeros behind them up to a width, and their scale."""
    largest, is_number = np.float32(0.0), True
    for at in range(len(query_D)):
        largest = max(largest, abs(query_D[at]))
        is_number = is_number and np.isfinite(query_D[at])
    numbers_D = np.zeros(width, np.int16)
    if not is_number:
        return numbers_D, np.float32(np.nan)
    unit = largest / np.float32(_LARGEST)
    if unit > 0:
        for at in range(len(query_D)):
            numbers_D[at] = np.int16(np.rint(query_D[at] / unit))
    return numbers_D, unit


@intrinsic  # type: ignore[untyped-decorator]
def _block_products(_context: Any, _numbers_X: Any, _start: Any, _query_D: Any, _pairs: Any, _sums_N: Any) -> Any:
    """Write the sums of products of a block's items with a query."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, query, sums = (
            context.make_array(signature.args[place])(context, builder, arguments[place]).data for place in (0, 2, 4)
        )
        numbers = builder.gep(numbers, [arguments[1]])
        words = builder.bitcast(query, _WORD.as_pointer())
        zeros = ir.Constant(_FLOATS, [0.0] * _LANES)
        totals = [cgutils.alloca_once_value(builder, zeros) for _ in range(_ITEMS // _LANES)]
        with cgutils.for_range(builder, arguments[3]) as loop:
            pair = _everywhere(builder, builder.load(builder.gep(words, [loop.index])))
            start = builder.mul(loop.index, ir.Constant(_LONG, 2 * _ITEMS))
            for place, total in enumerate(totals):
                at = builder.gep(numbers, [builder.add(start, ir.Constant(_LONG, 2 * _LANES * place))])
                added = _pair_products(builder, builder.load(builder.bitcast(at, _PAIRS.as_pointer()), align=64), pair)
                builder.store(builder.fadd(builder.load(total), builder.sitofp(added, _FLOATS)), total)
        for place, total in enumerate(totals):
            at = builder.bitcast(builder.gep(sums, [ir.Constant(_LONG, _LANES * place)]), _FLOATS.as_pointer())
            builder.store(builder.load(total), at, align=4)
        return context.get_dummy_value()

    return types.none(_numbers_X, _start, _query_D, _pairs, _sums_N), generate


def _everywhere(builder: Any, word: Any) -> Any:
    """Return a vector that repeats the two numbers of a word."""
    empty = ir.Constant(_SUMS, ir.Undefined)
    first = builder.insert_element(empty, word, ir.Constant(_WORD, 0))
    return builder.bitcast(builder.shuffle_vector(first, empty, ir.Constant(_SUMS, None)), _PAIRS)


def _pair_products(builder: Any, one: Any, other: Any) -> Any:
    """Return the sums of neighbouring products of two vectors of 16-bit numbers."""
    products = builder.mul(builder.sext(one, _PRODUCTS), builder.sext(other, _PRODUCTS))
    even, odd = (
        builder.shuffle_vector(
            products,
            ir.Constant(_PRODUCTS, ir.Undefined),
            ir.Constant(_SUMS, [2 * lane + place for lane in range(_LANES)]),
        )
        for place in (0, 1)
    )
    return builder.add(even, odd)
