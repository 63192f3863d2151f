"""Counts of items that co-occur in histories, and the decayed votes of a history's last items.

Axes: B history, N item, E event, P pair, W history item that votes.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array

from recsys.core.arrays import IntArray
from recsys.data.events import EventLog


def cooccurrence(log: EventLog, window: int) -> csr_array:
    """Return the symmetric counts of two different items within a window of one history, sparse (items, items)."""
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    total_NN = csr_array((log.num_items, log.num_items), dtype=np.float64)
    for distance in range(1, window + 1):
        left_P, right_P = log.items_E[:-distance], log.items_E[distance:]
        together_P = (users_E[:-distance] == users_E[distance:]) & (left_P != right_P)
        left_P, right_P = left_P[together_P], right_P[together_P]
        ones_P = np.ones(len(left_P))
        total_NN = total_NN + coo_array((ones_P, (left_P, right_P)), shape=total_NN.shape).tocsr()
    return csr_array(total_NN + total_NN.T)


def cosine_cooccurrence(log: EventLog, window: int) -> csr_array:
    """Return :func:`cooccurrence` over the root of both items' events, sparse (items, items), float32, sorted."""
    counts_N = log.counts_N
    scale_NN = diags_array(1 / np.sqrt(np.maximum(counts_N, 1)), dtype=np.float32)
    cosine_NN = csr_array(scale_NN @ cooccurrence(log, window).astype(np.float32) @ scale_NN)
    cosine_NN.sort_indices()
    return cosine_NN


def recent_votes(histories: Sequence[IntArray], *, last: int, decay: float, num_items: int) -> csr_array:
    """Return the votes of each history's last items, each older one's ``decay`` times the next newer one's.

    Args:
        histories: items of each history, oldest first; may be empty.
        last: how many last items have a vote.
        decay: factor from an item's vote to the vote of the item before it.
        num_items: size of the catalogue.

    Shape:
        returns: sparse (histories, items), float32; an item that comes again has several entries, which add up.
    """
    last_W = [items[-last:][::-1] for items in histories]
    offsets_B1 = np.cumsum([0, *(len(items) for items in last_W)])
    items_W = np.concatenate([np.empty(0, np.int64), *last_W])
    age_W = np.arange(len(items_W)) - np.repeat(offsets_B1[:-1], np.diff(offsets_B1))
    votes_W = (decay**age_W).astype(np.float32)
    return csr_array((votes_W, items_W, offsets_B1), shape=(len(histories), num_items))
