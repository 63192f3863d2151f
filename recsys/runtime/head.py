"""Item log-probabilities of one history: products with item keys, the co-occurrence prior, the bias of repeats.

Axes: N item, D width, J co-occurrence window, X entry of the windows' tables, T time.
"""

from typing import NamedTuple

import numpy as np

from recsys.core.arrays import FloatArray, IntArray
from recsys.runtime.compiled import kernel
from recsys.runtime.functions import log_softmax
from recsys.runtime.item_matrix import ItemMatrix, item_products


class Prior(NamedTuple):
    """The tables of all windows of the co-occurrence prior, one after another, and how each is read.

    Shape:
        starts_JN1: (windows, items + 1) where each item's entries start, in all windows' entries.
        items_X, values_X: (entries,) the columns, int32, and the values.
        last_J, decay_J, weight_J: (windows,) how many last items vote, the factor from a vote to the one before, and
            a window's weight.
    """

    starts_JN1: IntArray
    items_X: IntArray
    values_X: FloatArray
    last_J: IntArray
    decay_J: FloatArray
    weight_J: FloatArray
    floor: FloatArray
    """One number: the score of a sum of votes is log(1 + votes / floor)."""


class ItemTable(NamedTuple):
    """What the item head holds of every item.

    Shape:
        keys_ND: (items, width) what queries are multiplied with; bias_N: (items,).
        repeat_bias: one number, added to the logits of what a history has.
    """

    keys_ND: FloatArray
    bias_N: FloatArray
    repeat_bias: FloatArray


class HeadItems(NamedTuple):
    """An :class:`ItemTable` as it is read: its keys as a matrix of whole numbers."""

    keys: ItemMatrix
    bias_N: FloatArray
    repeat_bias: FloatArray

    @classmethod
    def of(cls, table: ItemTable) -> "HeadItems":
        """Return what is read of a table."""
        return cls(keys=ItemMatrix.of(table.keys_ND), bias_N=table.bias_N, repeat_bias=table.repeat_bias)


@kernel
def item_log_probs(query_D: FloatArray, items_T: IntArray, table: HeadItems, prior: Prior) -> FloatArray:
    """Return the log-probability of every item after a history, (items,).

    Shape:
        query_D: (width,). items_T: (time,) the whole history, oldest first; may be empty.
    """
    logits_N = item_products(query_D, table.keys)
    for item in range(len(logits_N)):
        logits_N[item] += table.bias_N[item]
    add_prior(logits_N, items_T, prior)
    repeat_bias = table.repeat_bias[0]
    if repeat_bias != 0:
        seen_N = np.zeros(len(logits_N), np.bool_)
        for item in items_T:
            if not seen_N[item]:
                seen_N[item] = True
                logits_N[item] += repeat_bias
    log_softmax(logits_N)
    return logits_N


@kernel
def add_prior(logits_N: FloatArray, items_T: IntArray, prior: Prior) -> None:
    """Add the weighted scores of the co-occurrence prior to item logits."""
    votes_N = np.zeros(len(logits_N), np.float32)
    voted_X = np.empty(len(logits_N), np.int32)
    per_vote = np.float32(1.0) / prior.floor[0]
    for window in range(len(prior.weight_J)):
        count = 0
        for age in range(min(prior.last_J[window], len(items_T))):
            vote = np.float32(prior.decay_J[window] ** age)
            voter = items_T[len(items_T) - 1 - age]
            for at in range(prior.starts_JN1[window, voter], prior.starts_JN1[window, voter + 1]):
                item, added = prior.items_X[at], vote * prior.values_X[at]
                if votes_N[item] == 0 and added != 0:
                    voted_X[count] = item
                    count += 1
                votes_N[item] += added
        weight = prior.weight_J[window]
        for item in voted_X[:count]:
            logits_N[item] += weight * np.log1p(votes_N[item] * per_vote)
            votes_N[item] = 0
