"""Owns the small linear algebra of features: truncated SVD, PCA, row normalisation; all deterministic by seed.

Axes: N item, T term or neighbour, F feature.
"""

from typing import Any

import numpy as np
from sklearn.utils.extmath import randomized_svd

from recsys.core.arrays import FloatArray


def l2_rows(matrix_NF: FloatArray) -> FloatArray:
    """Return the rows scaled to length one; zero rows stay zero."""
    norms_N1 = np.linalg.norm(matrix_NF, axis=1, keepdims=True)
    return (matrix_NF / np.where(norms_N1 > 0, norms_N1, 1.0)).astype(np.float32)


def truncated_svd(matrix_NT: Any, width: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the first left singular vectors and values of a sparse matrix, padded with zeros to ``width``.

    Shape:
        matrix_NT: (items, terms) scipy sparse.
        returns: (items, width) and (width,).
    """
    left_NF = np.zeros((matrix_NT.shape[0], width), np.float32)
    values_F = np.zeros(width, np.float32)
    rank = min(width, *matrix_NT.shape)
    if rank == 0 or matrix_NT.nnz == 0:
        return left_NF, values_F
    u_NF, s_F, _ = randomized_svd(matrix_NT, n_components=rank, random_state=seed)
    left_NF[:, :rank], values_F[:rank] = u_NF, s_F
    return left_NF, values_F


def pca(matrix_NF: FloatArray, width: int) -> FloatArray:
    """Return the centred rows in their first principal axes, signs fixed, shape (items, min(width, features))."""
    centred_NF = (matrix_NF - matrix_NF.mean(axis=0)).astype(np.float64)
    _, axes_FF = np.linalg.eigh(centred_NF.T @ centred_NF)
    axes_FW = axes_FF[:, ::-1][:, :width]
    largest_W = np.abs(axes_FW).argmax(axis=0)
    signs_W = np.where(axes_FW[largest_W, np.arange(axes_FW.shape[1])] < 0, -1.0, 1.0)
    return np.ascontiguousarray(centred_NF @ (axes_FW * signs_W), dtype=np.float32)
