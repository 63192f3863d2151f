"""Owns vectors of what is used together: PPMI of windowed co-occurrence, truncated SVD.

Axes: N item, P pair, F feature.
"""

from typing import Any

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.data.cooccurrence import cooccurrence
from recsys.data.events import EventLog
from recsys.features.reduction import l2_rows, truncated_svd

_CONTEXT_SMOOTHING = 0.75


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


def positive_pmi(counts_NN: Any) -> Any:
    """Return max(0, log p(i, j) / (p(i) p'(j))) with p' the context counts to the power .75, normalised."""
    pairs = counts_NN.tocoo()
    if pairs.nnz == 0:
        return csr_array(counts_NN.shape, dtype=np.float32)
    counts_N = np.asarray(counts_NN.sum(axis=1)).ravel()
    context_N = counts_N**_CONTEXT_SMOOTHING
    context_N /= context_N.sum()
    row_P, column_P = pairs.coords
    pmi_P = np.log(pairs.data / (counts_N[row_P] * context_N[column_P]))
    kept_P = pmi_P > 0
    values_P = pmi_P[kept_P].astype(np.float32)
    return csr_array((values_P, (row_P[kept_P], column_P[kept_P])), shape=counts_NN.shape)
