"""How many codes items share with what a user chose last: what orders items of which no model saw a choice.

Axes: B request, I scored item, N item, M codebook, K code of a codebook, T event of a history, the latest first.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import FloatArray, IntArray

EVENTS: Final = 8
"""How many of the latest events count."""
DECAY: Final = 0.7
"""Weight of an event relative to the one after it; the latest has 1."""


class SharedCodes:
    """Scores items by the share of codebooks in which they have the code of an event's item, summed over events.

    It is a sum over an item's codes, as a token model's logit is, so items of equal codes have equal scores.

    Args:
        codes_NM: all items' codes, (items, codebooks).
        item_I: the items that are scored, (scored items,).
        weight: the score of an item that has all codes of the latest event's item, and none of those before.
    """

    def __init__(self, codes_NM: IntArray, item_I: IntArray, *, weight: float = 1.0) -> None:
        self.weight = weight
        self.codes_NM, self.codes_IM = codes_NM, codes_NM[item_I]
        self._book_M = np.arange(codes_NM.shape[1])
        self._size = int(codes_NM.max(initial=0)) + 1

    def __call__(self, histories: Sequence[History]) -> FloatArray:
        """Return the scores after each history, 0 after an empty one, (histories, scored items)."""
        return np.stack([self._after(history) for history in histories])

    def _after(self, history: History) -> FloatArray:
        latest_T = history.items[::-1][:EVENTS]
        weight_T = self.weight * DECAY ** np.arange(len(latest_T)) / len(self._book_M)
        counted_MK = np.zeros((len(self._book_M), self._size))
        np.add.at(counted_MK, (self._book_M, self.codes_NM[latest_T]), weight_T[:, None])
        return np.asarray(counted_MK[self._book_M, self.codes_IM].sum(axis=1), np.float32)
