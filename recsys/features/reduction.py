"""The small linear algebra of features: truncated SVD, PCA, row normalisation; all deterministic by seed.

Axes: N item, T term or neighbour, F feature, W kept axis.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsmr
from sklearn.utils.extmath import randomized_svd

from recsys.core.arrays import FloatArray


def l2_rows(matrix_NF: FloatArray) -> FloatArray:
    """Return the rows scaled to length one; zero rows stay zero."""
    norms_N1 = np.linalg.norm(matrix_NF, axis=1, keepdims=True)
    return (matrix_NF / np.where(norms_N1 > 0, norms_N1, 1.0)).astype(np.float32)


def truncated_svd(matrix_NT: csr_array, width: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the first left singular vectors and values of a sparse matrix, padded with zeros to ``width``.

    Shape:
        matrix_NT: (items, terms) scipy sparse.
        returns: (items, width) and (width,).
    """
    left_NF, values_F, _ = _padded_svd(matrix_NT, width, seed)
    return left_NF, values_F


def fit_projection(matrix_NT: csr_array, width: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the rows' scores in a truncated SVD and axes that give new rows theirs: ``matrix_NT @ axes_TF = scores``.

    The right singular vectors are such axes only as far as the randomised SVD has converged, which it has not in its
    last dimensions when there are no fewer items than terms; there the axes are found by least squares.

    Shape:
        matrix_NT: (items, terms) scipy sparse.
        returns: (items, width) and (terms, width), padded with zeros.
    """
    left_NF, values_F, axes_TF = _padded_svd(matrix_NT, width, seed)
    scores_NF = left_NF * values_F
    if matrix_NT.shape[0] >= matrix_NT.shape[1]:
        exact_NT = matrix_NT.astype(np.float64)
        for axis in np.flatnonzero(values_F):
            start_T, wanted_N = axes_TF[:, axis].astype(np.float64), scores_NF[:, axis].astype(np.float64)
            axes_TF[:, axis] = lsmr(exact_NT, wanted_N, x0=start_T, atol=1e-6, btol=1e-6, maxiter=100)[0]
    return scores_NF, axes_TF


def _padded_svd(matrix_NT: csr_array, width: int, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    left_NF = np.zeros((matrix_NT.shape[0], width), np.float32)
    values_F = np.zeros(width, np.float32)
    axes_TF = np.zeros((matrix_NT.shape[1], width), np.float32)
    rank = min(width, *matrix_NT.shape)
    if rank == 0 or matrix_NT.nnz == 0:
        return left_NF, values_F, axes_TF
    u_NF, s_F, v_FT = randomized_svd(matrix_NT, n_components=rank, random_state=seed)
    left_NF[:, :rank], values_F[:rank], axes_TF[:, :rank] = u_NF, s_F, v_FT.T
    return left_NF, values_F, axes_TF


@dataclass(frozen=True, kw_only=True, eq=False)
class Principal:
    """The centre and the first principal axes of some rows.

    Shape:
        mean_F: (features,). axes_FW: (features, kept axes) float64.
    """

    mean_F: FloatArray
    axes_FW: "np.ndarray[tuple[int, int], np.dtype[np.float64]]"

    def apply(self, matrix_NF: FloatArray) -> FloatArray:
        """Return the centred rows in the axes, shape (items, kept axes)."""
        centred_NF = (matrix_NF - self.mean_F).astype(np.float64)
        return np.ascontiguousarray(centred_NF @ self.axes_FW, dtype=np.float32)


def fit_pca(matrix_NF: FloatArray, width: int) -> Principal:
    """Return the rows' principal axes, signs fixed, min(width, features) of them."""
    mean_F = matrix_NF.mean(axis=0)
    centred_NF = (matrix_NF - mean_F).astype(np.float64)
    _, axes_FF = np.linalg.eigh(centred_NF.T @ centred_NF)
    axes_FW = axes_FF[:, ::-1][:, :width]
    largest_W = np.abs(axes_FW).argmax(axis=0)
    signs_W = np.where(axes_FW[largest_W, np.arange(axes_FW.shape[1])] < 0, -1.0, 1.0)
    return Principal(mean_F=mean_F, axes_FW=axes_FW * signs_W)
