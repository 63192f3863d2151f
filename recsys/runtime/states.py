"""From a history to the vectors that score items: the history encoder's state and the query of the item head.

Axes: T time, D width.
"""

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import FloatArray
from recsys.runtime.compiled import kernel
from recsys.runtime.encoder_stack import EventReader, EventReaders
from recsys.runtime.weights import GeneratorWeights, HistoryWeights, MemberWeights

_LEAST_LENGTH = np.float32(1e-12)


class HistoryQueries:
    """Reads histories by the history encoder and the ensemble members."""

    def __init__(self, weights: GeneratorWeights) -> None:
        own, members, longest = weights.history, weights.members, weights.max_history
        self._readers = EventReaders([_own(own, longest), *(_member(member, longest) for member in members)])
        self._calendar_out_ED, self._edges_E = own.calendar_out_ED, own.calendar_edges_E
        self._scale = own.scale[0]
        self._members = members

    def of(self, history: History) -> tuple[FloatArray, FloatArray]:
        """Return the history encoder's state, (width,), and what is multiplied with item keys, (key width,)."""
        own_D, *states = self._readers.states(history)
        seconds_T = history.timestamps
        span = np.searchsorted(self._edges_E, seconds_T[-1]) if len(seconds_T) else len(self._calendar_out_ED) - 1
        own_D = own_D + self._calendar_out_ED[span]
        queries = [of_length(own_D, self._scale)]
        for member, state_D in zip(self._members, states, strict=True):
            member_D = of_length(state_D, member.scale[0]) if member.scale[0] else state_D
            queries.append(member.share[0] * member_D)
        return own_D, np.concatenate(queries)


def _own(weights: HistoryWeights, longest: int) -> EventReader:
    return EventReader(
        encoder=weights.encoder,
        longest=longest,
        item_ND=weights.item_ND,
        span_ZD=weights.calendar_in_ED,
        edges_Z=weights.calendar_edges_E,
        start_D=weights.start_D,
    )


def _member(weights: MemberWeights, longest: int) -> EventReader:
    return EventReader(
        encoder=weights.encoder, longest=longest, item_ND=weights.item_ND, position_TD=weights.position_TD
    )


@kernel
def of_length(x_D: FloatArray, length: np.float32) -> FloatArray:
    """Return a vector scaled to a length; a zero vector stays."""
    squares = np.float32(0.0)
    for at in range(len(x_D)):
        squares += x_D[at] * x_D[at]
    return x_D * (length / max(np.sqrt(squares), _LEAST_LENGTH))
