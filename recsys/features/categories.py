"""The one category of each item: the deepest frequent level of its list, else a cluster of its vector.

Axes: N item, F feature.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from recsys.core.arrays import FloatArray, IntArray
from recsys.data.schema import CATEGORIES

OTHER = "other"
_JOINT = " > "
_MAX_CLUSTERS = 32


def item_categories(
    items: pa.Table, vectors_NF: FloatArray, *, min_items: int = 50, seed: int
) -> tuple[IntArray, list[str]]:
    """Return each item's category number and the categories' names.

    An item's category is the longest prefix of its ``categories`` (or ``genres``) that at least
    ``min(min_items, items / 10)`` items share; the last name, "other", is for items without one. A catalogue
    without any such prefix is clustered instead.

    Shape:
        vectors_NF: (items, features).
        returns: (items,) int64 and the names.
    """
    lists = _prefix_lists(items)
    if lists is None:
        return _clusters(vectors_NF, min_items, seed)
    counts = Counter(prefix for prefixes in lists for prefix in prefixes)
    least = max(1.0, min(min_items, len(lists) / 10))
    deepest = [next((p for p in reversed(prefixes) if counts[p] >= least), None) for prefixes in lists]
    found = sorted({prefix for prefix in deepest if prefix is not None})
    if not found:
        return _clusters(vectors_NF, min_items, seed)
    number = {prefix: index for index, prefix in enumerate(found)}
    category_N = np.array([len(found) if prefix is None else number[prefix] for prefix in deepest], np.int64)
    return category_N, [_JOINT.join(prefix) for prefix in found] + [OTHER]


def named_categories(items: pa.Table, names: Sequence[str]) -> IntArray:
    """Return the number of each item's longest prefix that has a name, -1 where none has.

    Args:
        items: later items than those the names were found on.
        names: what :func:`item_categories` returned; "other" and clusters name no prefix.

    Shape:
        returns: (items,) int64.
    """
    number = {name: index for index, name in enumerate(names)}
    if names and names[-1] == OTHER:
        del number[OTHER]
    lists = _prefix_lists(items) or [[]] * items.num_rows
    joined = [[_JOINT.join(prefix) for prefix in reversed(prefixes)] for prefixes in lists]
    return np.array([next((number[p] for p in prefixes if p in number), -1) for prefixes in joined], np.int64)


def _prefix_lists(items: pa.Table) -> list[list[tuple[str, ...]]] | None:
    column = next((name for name in (CATEGORIES, "genres") if name in items.column_names), None)
    return None if column is None else [_prefixes(value) for value in items[column].to_pylist()]


def _prefixes(value: Any) -> list[tuple[str, ...]]:
    parts = [str(part) for part in value or [] if part]
    return [tuple(parts[: depth + 1]) for depth in range(len(parts))]


def _clusters(vectors_NF: FloatArray, min_items: int, seed: int) -> tuple[IntArray, list[str]]:
    count = max(1, min(_MAX_CLUSTERS, len(vectors_NF) // max(1, min_items)))
    names = [f"cluster {index}" for index in range(count)]
    if count == 1:
        return np.zeros(len(vectors_NF), np.int64), names
    points_NF = np.ascontiguousarray(vectors_NF, dtype=np.float32)
    with threadpool_limits(1):
        kmeans = faiss.Kmeans(points_NF.shape[1], count, niter=20, seed=seed, min_points_per_centroid=1)
        kmeans.train(points_NF)
        _, nearest_N1 = kmeans.index.search(points_NF, 1)
    return nearest_N1.ravel().astype(np.int64), names
