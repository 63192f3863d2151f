"""Semantic ids: residual k-means codes of an item's vector, and one more token that differs between colliding items.

Axes: N item, F feature, L token of an id.
"""

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.seeds import derive_seed

_KMEANS_STEPS = 25
_POINTS_PER_CODE = 256


def semantic_ids(vectors_NF: FloatArray, *, levels: int, codes: int, seed: int) -> IntArray:
    """Return every item's id; no two items share one.

    Level l is the nearest centre of what levels 0..l-1 left over (TIGER, section 3.1, with k-means in place of the
    RQ-VAE). Items that share all levels are counted up by catalogue index in the last token.

    Shape:
        vectors_NF: (items, features), at least one item.
        result: (items, levels + 1), each token counted from 0.
    """
    residual_NF = np.array(vectors_NF, np.float32, order="C")
    columns = []
    with threadpool_limits(1):
        for level in range(levels):
            centres, code_N = _nearest_centres(residual_NF, codes, derive_seed(seed, "semantic-ids", level))
            residual_NF -= centres[code_N]
            columns.append(code_N)
    columns.append(_count_up(np.stack(columns, axis=1)))
    return np.stack(columns, axis=1)


def _nearest_centres(points_NF: FloatArray, codes: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Return k-means centres, at most one per point, and the nearest one of each point."""
    kmeans = faiss.Kmeans(
        points_NF.shape[1],
        min(codes, len(points_NF)),
        niter=_KMEANS_STEPS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=_POINTS_PER_CODE,
    )
    kmeans.train(points_NF)
    _, nearest_N1 = kmeans.index.search(points_NF, 1)
    return np.asarray(kmeans.centroids, np.float32), nearest_N1[:, 0].astype(np.int64)


def _count_up(codes_NL: IntArray) -> IntArray:
    """Return how many earlier rows equal each row."""
    group_N = np.unique(codes_NL, axis=0, return_inverse=True)[1].reshape(-1)
    order_N = np.argsort(group_N, kind="stable")
    sizes = np.bincount(group_N)
    firsts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    count_N = np.empty(len(codes_NL), np.int64)
    count_N[order_N] = np.arange(len(codes_NL)) - firsts
    return count_N
