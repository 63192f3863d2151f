"""From a history to the vectors that score items: the history encoder's state and the ensemble member's query.

Axes: T time, D width.
"""

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import FloatArray, IntArray
from recsys.runtime.encoder import encode_last
from recsys.runtime.weights import HistoryWeights, MemberWeights

_LEAST_LENGTH = np.float32(1e-12)


def history_state(weights: HistoryWeights, history: History) -> FloatArray:
    """Return the history encoder's state after a history, (width,)."""
    span_T = np.searchsorted(weights.calendar_edges_E, history.timestamps)
    x_TD = np.empty((len(span_T) + 1, len(weights.start_D)), np.float32)
    x_TD[0] = weights.start_D
    x_TD[1:] = weights.item_ND[history.items] + weights.calendar_in_ED[span_T]
    # the start vector has the time of the first event
    seconds_T = np.concatenate([history.timestamps[:1], history.timestamps]) if len(span_T) else np.zeros(1, np.int64)
    last_span = span_T[-1] if len(span_T) else len(weights.calendar_out_ED) - 1
    return encode_last(x_TD, seconds_T, weights.encoder) + weights.calendar_out_ED[last_span]


def member_query(weights: MemberWeights, items_T: IntArray) -> FloatArray:
    """Return the ensemble member's query after a history, zeros after an empty one, (width,)."""
    if not len(items_T):
        return np.zeros(weights.item_ND.shape[1], np.float32)
    x_TD = weights.item_ND[items_T] + weights.position_TD[: len(items_T)]
    state_D = encode_last(x_TD, np.zeros(len(items_T), np.int64), weights.encoder)
    return weights.scale * unit(state_D) if weights.scale[0] else state_D


def unit(x_D: FloatArray) -> FloatArray:
    """Return a vector over its length; a zero vector stays."""
    return np.asarray(x_D / max(np.linalg.norm(x_D), _LEAST_LENGTH), np.float32)
