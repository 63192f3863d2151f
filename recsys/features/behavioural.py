"""Behavioural item vectors: truncated SVD of the PPMI of windowed co-occurrence counts.

Axes: N item, P pair, F feature.
"""

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.data.cooccurrence import cooccurrence
from recsys.data.events import EventLog
from recsys.features.reduction import l2_rows, truncated_svd

_CONTEXT_SMOOTHING = 0.75
_ROWS = 8192
"""Items whose pairs are turned at a time."""


class BehaviouralConfig(Config):
    """How histories become item vectors."""

    width: int = Field(default=128, ge=1)
    """Width of the behavioural block."""
    window: int = Field(default=5, ge=1)
    """Two events of a user count as together when at most so many places apart."""


def behavioural_vectors(log: EventLog, config: BehaviouralConfig, seed: int) -> FloatArray:
    """Return unit vectors of items by their neighbours in histories, shape (items, width); unseen items get zeros."""
    ppmi_NN = positive_pmi(cooccurrence(log, config.window))
    left_NF, values_F = truncated_svd(ppmi_NN, config.width, seed)
    left_NF[np.diff(ppmi_NN.indptr) == 0] = 0
    return l2_rows(left_NF * np.sqrt(values_F))


def positive_pmi(counts_NN: csr_array) -> csr_array:
    """Return max(0, log p(i, j) / (p(i) p'(j))) with p' the context counts to the power .75, normalised."""
    if counts_NN.nnz == 0:
        return counts_NN.astype(np.float32)
    counts_N = np.asarray(counts_NN.sum(axis=1)).ravel()
    context_N = counts_N**_CONTEXT_SMOOTHING
    context_N /= context_N.sum()
    values_P = np.empty(counts_NN.nnz, np.float32)
    for first in range(0, len(counts_N), _ROWS):
        starts = counts_NN.indptr[first : first + _ROWS + 1]
        pairs = slice(starts[0], starts[-1])
        own_P = np.repeat(counts_N[first : first + _ROWS], np.diff(starts))
        values_P[pairs] = np.log(counts_NN.data[pairs] / (own_P * context_N[counts_NN.indices[pairs]]))
    np.maximum(values_P, 0, out=values_P)
    places = counts_NN.indices.copy(), counts_NN.indptr.copy()  # they are changed next
    ppmi_NN = csr_array((values_P, *places), shape=counts_NN.shape)
    ppmi_NN.eliminate_zeros()
    return ppmi_NN
