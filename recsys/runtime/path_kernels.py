"""The kernels that search the paths of one row: every path owns a stretch of one list of items.

All paths begin in one codebook, and each goes on by one of its own, so their remaining items are disjoint. A step sorts
each stretch by the codes of the path's next codebook, and the most probable stretches live on.

Axes: P path, M codebook, K code, N item, C candidate item of a path, X expansion, L live path.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import BoolArray, Float64Array, FloatArray, IntArray
from recsys.runtime.compiled import kernel

Codes = NDArray[np.integer]
_LEAST = 1e-300
"""Probabilities below it count as this one in logs."""
NEAR = 1e-6
"""Sums within this share of the least are equal to it, so that rounding never decides."""


class CodeTable(NamedTuple):
    """The items' codes in one or two bytes each, by item and by codebook."""

    codes_NM: Codes
    codes_MN: Codes
    codebook_size: int

    @classmethod
    def of(cls, index: ValidityIndex) -> "CodeTable":
        """Return the codes of an index's catalogue."""
        codes_MN = index.codes_MN.astype(np.min_scalar_type(index.codebook_size - 1))
        return cls(codes_NM=np.ascontiguousarray(codes_MN.T), codes_MN=codes_MN, codebook_size=index.codebook_size)


class Limits(NamedTuple):
    """When a path is finished, and how many of a row are followed (see :class:`MarginalSearchConfig`).

    Shape:
        open_M: (codebooks,) which codebooks paths may take.
    """

    num_paths: int
    first_book: int
    """The codebook of the first step."""
    finish_below: int
    min_steps: int
    enough: float
    open_M: BoolArray


class Paths(NamedTuple):
    """Paths of one row, and the stretch of the list that each owns.

    Shape:
        codes_PM, order_PM: (paths, codebooks) chosen codes and the step of each choice, -1 where free.
        confidence_PM: (paths, codebooks) probability of the chosen code, 0 where free.
        log_prob_P, start_P, size_P: (paths,).
    """

    codes_PM: IntArray
    order_PM: IntArray
    confidence_PM: FloatArray
    log_prob_P: Float64Array
    start_P: IntArray
    size_P: IntArray


class Pool(NamedTuple):
    """Expansions of live paths: the code, its probability, and the stretch of its items.

    Shape:
        parent_X, code_X, start_X, size_X, mass_X: (expansions,). book_L: (paths,) the codebook each path goes on by.
    """

    parent_X: IntArray
    code_X: IntArray
    start_X: IntArray
    size_X: IntArray
    mass_X: Float64Array
    book_L: IntArray


@kernel
def search_paths(
    prob_N: Float64Array, eligible_N: BoolArray, table: CodeTable, limits: Limits
) -> tuple[Paths, IntArray]:
    """Return one row's finished paths, and their items one path after another.

    Shape:
        prob_N: (items,) sums to one over eligible items, 0 elsewhere. eligible_N: (items,).
    """
    items, books = table.codes_NM.shape
    last = limits.open_M.sum() - 1
    read_N = np.flatnonzero(eligible_N)
    write_N = np.empty_like(read_N)
    width = min(limits.num_paths, items)
    live, done, done_items_N = _no_paths(1, books), _no_paths(width, books), np.empty(items, np.int64)
    live.size_P[0] = len(read_N)
    pool = _no_pool(max(width, table.codebook_size), len(read_N))
    finished, filled, held = 0, 0, 0.0
    for step in range(last + 1):
        expansions = _expand(live, read_N, write_N, prob_N, table, limits, pool, step)
        chosen_X = _most_probable(pool.mass_X[:expansions], limits.num_paths - finished)
        chosen_X = _until_enough(chosen_X, pool.mass_X, held, limits.enough)
        read_N, write_N = write_N, read_N
        grown = _no_paths(len(chosen_X), books)
        on = 0
        for at in chosen_X:
            size = pool.size_X[at]
            is_done = size == 1 or step == last or (step + 1 >= limits.min_steps and size <= limits.finish_below)
            if is_done:
                _grow(live, pool, at, step, done, finished)
                start = done.start_P[finished]
                done_items_N[filled : filled + size] = read_N[start : start + size]
                done.start_P[finished] = filled
                held += np.exp(done.log_prob_P[finished])
                filled += size
                finished += 1
            else:
                _grow(live, pool, at, step, grown, on)
                on += 1
        live = _first(grown, on)
        if on == 0:
            break
    return _first(done, finished), done_items_N[:filled]


@kernel
def _no_paths(count: int, books: int) -> Paths:
    """Return room for some paths without codes."""
    return Paths(
        np.full((count, books), -1, np.int64),
        np.full((count, books), -1, np.int64),
        np.zeros((count, books), np.float32),
        np.zeros(count, np.float64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
    )


@kernel
def _no_pool(paths: int, expansions: int) -> Pool:
    """Return room for the expansions of some paths."""
    return Pool(
        np.empty(expansions, np.int64),
        np.empty(expansions, np.int64),
        np.empty(expansions, np.int64),
        np.empty(expansions, np.int64),
        np.empty(expansions, np.float64),
        np.empty(paths, np.int64),
    )


@kernel
def _first(paths: Paths, count: int) -> Paths:
    """Return the first paths."""
    return Paths(
        paths.codes_PM[:count],
        paths.order_PM[:count],
        paths.confidence_PM[:count],
        paths.log_prob_P[:count],
        paths.start_P[:count],
        paths.size_P[:count],
    )


@kernel
def _grow(live: Paths, pool: Pool, at: int, step: int, grown: Paths, to: int) -> None:
    """Write the path of an expansion."""
    parent = pool.parent_X[at]
    book = pool.book_L[parent]
    grown.codes_PM[to] = live.codes_PM[parent]
    grown.order_PM[to] = live.order_PM[parent]
    grown.confidence_PM[to] = live.confidence_PM[parent]
    log_prob = np.log(max(pool.mass_X[at], _LEAST))
    grown.codes_PM[to, book] = pool.code_X[at]
    grown.order_PM[to, book] = step
    grown.confidence_PM[to, book] = np.exp(min(log_prob - live.log_prob_P[parent], 0.0))
    grown.log_prob_P[to] = log_prob
    grown.start_P[to] = pool.start_X[at]
    grown.size_P[to] = pool.size_X[at]


@kernel
def _expand(  # noqa: PLR0913 (a step's state, without a copy)
    live: Paths,
    read_N: IntArray,
    write_N: IntArray,
    prob_N: Float64Array,
    table: CodeTable,
    limits: Limits,
    pool: Pool,
    step: int,
) -> int:
    """Sort every path's stretch by the codes of its next codebook, and return how many expansions that makes."""
    count_K = np.zeros(table.codebook_size, np.int64)
    mass_K = np.zeros(table.codebook_size, np.float64)
    expansions = 0
    for path in range(len(live.size_P)):
        start, size = live.start_P[path], live.size_P[path]
        items_C = read_N[start : start + size]
        if step == 0:
            book = limits.first_book
        else:
            book = _isolating_codebook(items_C, prob_N, table.codes_NM, live.codes_PM[path], limits.open_M)
        pool.book_L[path] = book
        code_N = table.codes_MN[book]
        for item in items_C:
            count_K[code_N[item]] += 1
            mass_K[code_N[item]] += prob_N[item]
        for code in range(table.codebook_size):
            count = count_K[code]
            if count and (step > 0 or mass_K[code] > 0):
                pool.parent_X[expansions], pool.code_X[expansions] = path, code
                pool.start_X[expansions], pool.size_X[expansions] = start, count
                pool.mass_X[expansions] = mass_K[code]
                expansions += 1
            count_K[code], mass_K[code] = start, 0.0  # from here on: where the code's next item is written
            start += count
        for item in items_C:
            code = code_N[item]
            write_N[count_K[code]] = item
            count_K[code] += 1
        count_K[:] = 0
    return expansions


@kernel
def _isolating_codebook(
    items_C: IntArray, prob_N: Float64Array, codes_NM: Codes, taken_M: IntArray, open_M: BoolArray
) -> int:
    """Return the first free open codebook in which the least probability shares the most probable item's code."""
    best = items_C[0]
    for item in items_C:
        if prob_N[item] > prob_N[best]:
            best = item
    own_M = codes_NM[best]
    shared_M = np.zeros(len(own_M), np.float64)
    for item in items_C:
        prob, code_M = prob_N[item], codes_NM[item]
        for book in range(len(own_M)):
            shared_M[book] += prob if code_M[book] == own_M[book] else 0.0
    for book in range(len(own_M)):
        if taken_M[book] >= 0 or not open_M[book]:
            shared_M[book] = np.inf
    return int(np.argmax(shared_M <= shared_M.min() * (1 + NEAR)))


@kernel
def _most_probable(mass_X: Float64Array, limit: int) -> IntArray:
    """Return the indices of the most probable expansions, at most ``limit``, best first, ties by index."""
    best_X = np.empty(min(limit, len(mass_X)), np.int64)
    count = 0
    for at in range(len(mass_X)):
        if count == len(best_X):
            if count == 0 or mass_X[at] <= mass_X[best_X[count - 1]]:
                continue
            count -= 1
        place = count
        while place > 0 and mass_X[best_X[place - 1]] < mass_X[at]:
            best_X[place] = best_X[place - 1]
            place -= 1
        best_X[place] = at
        count += 1
    return best_X


@kernel
def _until_enough(best_X: IntArray, mass_X: Float64Array, held: float, enough: float) -> IntArray:
    """Return the expansions, best first, up to the first behind which those before and finished paths hold enough."""
    if enough >= 1:
        return best_X
    kept = 0
    for at in best_X:
        if kept and held >= enough:
            break
        held += mass_X[at]
        kept += 1
    return best_X[:kept]
