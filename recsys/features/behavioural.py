"""Behavioural vectors: items that stand near each other in histories lie near each other.

Axes: N item, E event.
"""

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.data.events import EventLog

SMOOTHING = 0.75
"""Exponent on context counts, which keeps rare contexts from looking informative (word2vec's choice)."""


class BehaviouralConfig(Config):
    """How co-occurrence in histories becomes a vector."""

    width: int = 128
    """Width of the reduced space."""
    window: int = 5
    """How many events apart two items still count as together."""


def cooccurrence(log: EventLog, window: int) -> sparse.csr_array:
    """Count pairs of items at most ``window`` events apart in a history, symmetric, shape (items, items)."""
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    total = sparse.csr_array((log.num_items, log.num_items), dtype=np.float64)
    for distance in range(1, window + 1):
        same = users_E[distance:] == users_E[:-distance]
        left, right = log.items_E[:-distance][same], log.items_E[distance:][same]
        pairs = sparse.coo_array((np.ones(len(left)), (left, right)), shape=total.shape).tocsr()
        total = total + pairs + pairs.T
    return sparse.csr_array(total)


def behavioural_vectors(log: EventLog, config: BehaviouralConfig, seed: int) -> FloatArray:
    """Return unit vectors from the SVD of positive pointwise mutual information; unseen items are all zeros."""
    counts = cooccurrence(log, config.window).tocoo()
    out = np.zeros((log.num_items, config.width), np.float32)
    if counts.nnz == 0:
        return out
    total_N = np.asarray(counts.sum(axis=1)).reshape(-1)
    context_N = total_N**SMOOTHING
    row, column = counts.coords
    share = counts.data * context_N.sum() / (total_N[row] * context_N[column])
    positive = sparse.csr_array((np.maximum(np.log(share), 0), (row, column)), shape=counts.shape)
    width = min(config.width, log.num_items - 1)
    left, values, _ = randomized_svd(positive, n_components=width, random_state=seed)
    out[:, :width] = normalize(left * np.sqrt(values))
    return out
