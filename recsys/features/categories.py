"""One category an item: the level that is specific and still frequent, else a cluster of vectors.

Axes: N item, F feature.
"""

from collections import Counter

import faiss
import numpy as np
import pyarrow as pa

from recsys.core.arrays import FloatArray, IntArray
from recsys.data.schema import CATEGORIES

OTHER = "other"


def item_categories(
    items: pa.Table, vectors_NF: FloatArray, *, min_items: int = 50, seed: int
) -> tuple[IntArray, list[str]]:
    """Return each item's category and the categories' names.

    An item takes its deepest level (a prefix of its list, general to specific) that at least ``min_items`` items share
    (a tenth of a smaller catalogue); without any such level it is ``other``. Without categories, k-means clusters serve.
    """
    enough = max(1, min(min_items, items.num_rows // 10))
    name = next((name for name in (CATEGORIES, "genres") if name in items.column_names), None)
    lists = [] if name is None else [tuple(row or ()) for row in items[name].to_pylist()]
    if not any(lists):
        return _clusters(vectors_NF, max(1, min(32, items.num_rows // enough)), seed)
    counts = Counter(row[:depth] for row in lists for depth in range(1, len(row) + 1))
    chosen = [
        next((" > ".join(row[:d]) for d in range(len(row), 0, -1) if counts[row[:d]] >= enough), OTHER) for row in lists
    ]
    names = sorted(set(chosen))
    index = {label: at for at, label in enumerate(names)}
    return np.array([index[label] for label in chosen], dtype=np.int64), names


def _clusters(vectors_NF: FloatArray, count: int, seed: int) -> tuple[IntArray, list[str]]:
    kmeans = faiss.Kmeans(vectors_NF.shape[1], count, niter=20, seed=seed, min_points_per_centroid=1)
    kmeans.train(np.ascontiguousarray(vectors_NF))
    _, nearest = kmeans.index.search(np.ascontiguousarray(vectors_NF), 1)
    return nearest[:, 0].astype(np.int64), [f"cluster {number}" for number in range(count)]
