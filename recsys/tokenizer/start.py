"""The weights that a tokenizer starts from: a rotation that divides the variance among experts, k-means codewords.

Axes: N item, F feature, W all experts' latent dimensions, M codebook, K code, D latent width of one expert.
"""

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from recsys.core.arrays import FloatArray
from recsys.tokenizer.stream import slices

_KMEANS_STEPS = 15
_POINTS_PER_CODE = 256
_NOISE = 1e-3
_ROTATION_CODES = 256
_ROTATION_POINTS = 65_536


def balanced_rotation(points_NF: FloatArray, num_experts: int, width: int, rng: np.random.Generator) -> FloatArray:
    """Return the experts' matrices side by side: each a rotation of its own, equally rich share of principal axes.

    Axes are dealt out greedily, the largest first, to the expert with the smallest product of variances so far
    (eigenvalue allocation of optimized product quantisation). Experts wider than their share get random directions.

    Shape:
        returns: (features, experts * width), orthonormal columns where experts * width <= features.
    """
    mean_F = points_NF.mean(axis=0, dtype=np.float64)
    scatter_FF = sum((part_BF - mean_F).T @ (part_BF - mean_F) for part_BF in slices(points_NF))
    values_F, axes_FF = np.linalg.eigh(scatter_FF)
    order_F = np.argsort(-values_F, kind="stable")[: num_experts * width]
    floor = max(float(values_F[order_F[-1]]), float(values_F.max()) * 1e-6, 1e-30)
    richness_F = np.log(np.maximum(values_F[order_F] / floor, 1.0))
    room = -(-len(order_F) // num_experts)
    shares: list[list[int]] = [[] for _ in range(num_experts)]
    totals_M = np.zeros(num_experts)
    for axis, richness in zip(order_F, richness_F, strict=True):
        free = [expert for expert in range(num_experts) if len(shares[expert]) < room]
        poorest = min(free, key=lambda expert: (totals_M[expert], len(shares[expert])))
        shares[poorest].append(int(axis))
        totals_M[poorest] += richness
    blocks = [_rotated(axes_FF[:, share], width, rng) for share in shares]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def trained_rotation(
    points_NF: FloatArray, shape: tuple[int, int], *, codes: int, steps: int, rng: np.random.Generator
) -> FloatArray:
    """Return the experts' matrices side by side as optimized product quantisation leaves them (faiss ``OPQMatrix``).

    It starts from a random rotation. Where it cannot be trained (fewer items than features, too few for k-means, or no
    room for orthonormal columns), or with no steps, the balanced rotation comes back. At most 256 codes are used for
    it, as more of them cost much and turn it little.

    Shape:
        shape: (experts, width of one). returns: (features, experts * width).
    """
    (num_experts, width), num_features = shape, points_NF.shape[1]
    bits = min(codes, _ROTATION_CODES).bit_length() - 1
    too_few = len(points_NF) < max(num_features, 2 * 2**bits)
    if steps == 0 or too_few or num_experts * width > num_features:
        return balanced_rotation(points_NF, num_experts, width, rng)
    matrix = faiss.OPQMatrix(num_features, num_experts, num_experts * width)
    quantiser = faiss.ProductQuantizer(num_experts * width, num_experts, bits)
    quantiser.cp.min_points_per_centroid = 1
    matrix.pq, matrix.niter, matrix.max_train_points = quantiser, steps, _ROTATION_POINTS
    basis_FF, _ = np.linalg.qr(rng.normal(size=(num_features, num_features)))
    rows_WF = basis_FF[: num_experts * width].astype(np.float32)
    faiss.copy_array_to_vector(rows_WF.ravel(), matrix.A)
    with threadpool_limits(1):
        matrix.train(np.ascontiguousarray(points_NF, np.float32))
    trained_WF = faiss.vector_to_array(matrix.A).reshape(matrix.d_out, matrix.d_in)
    if not np.isfinite(trained_WF).all():
        return balanced_rotation(points_NF, num_experts, width, rng)
    return np.ascontiguousarray(trained_WF.T)


def _rotated(axes_FS: FloatArray, width: int, rng: np.random.Generator) -> FloatArray:
    share = axes_FS.shape[1]
    rotation_SS, _ = np.linalg.qr(rng.normal(size=(share, share)))
    extra_FX = rng.normal(size=(axes_FS.shape[0], width - share))
    extra_FX /= np.linalg.norm(extra_FX, axis=0, keepdims=True)
    return np.concatenate([axes_FS @ rotation_SS, extra_FX], axis=1)


def kmeans_codewords(points_ND: FloatArray, num_codes: int, seed: int) -> FloatArray:
    """Return start codewords: k-means centres, or with too few points the points and noisy copies of them.

    Shape:
        points_ND: (items, width), at least one item.
        returns: (codes, width).
    """
    points_ND = np.ascontiguousarray(points_ND, dtype=np.float32)
    # unique rows of many points cost a sort: the first few mostly show that there are enough
    distinct_XD = np.unique(points_ND[: 4 * num_codes], axis=0)
    if len(distinct_XD) <= num_codes < len(points_ND):
        distinct_XD = np.unique(points_ND, axis=0)
    if len(distinct_XD) <= num_codes:
        rng = np.random.default_rng(seed)
        copies_XD = distinct_XD[rng.integers(0, len(distinct_XD), num_codes - len(distinct_XD))]
        noise_XD = rng.normal(size=copies_XD.shape) * _NOISE * max(float(points_ND.std()), _NOISE)
        return np.concatenate([distinct_XD, copies_XD + noise_XD]).astype(np.float32)
    with threadpool_limits(1):
        kmeans = faiss.Kmeans(
            points_ND.shape[1],
            num_codes,
            niter=_KMEANS_STEPS,
            seed=seed,
            min_points_per_centroid=1,
            max_points_per_centroid=_POINTS_PER_CODE,
        )
        kmeans.train(points_ND)
    return np.asarray(kmeans.centroids, np.float32)
