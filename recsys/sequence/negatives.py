"""Which items a sampled softmax draws, and how often each is expected to be drawn.

Axes: N item, Y drawn item.
"""

from dataclasses import dataclass

import numpy as np

from recsys.core.arrays import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Different items that were drawn at least once.

    Shape:
        items_Y: (drawn,) ascending.
        log_expected_Y: (drawn,) float32, the log of the probability that an item is among them (logQ).
    """

    items_Y: IntArray
    log_expected_Y: FloatArray


class NegativeSampler:
    """Draws items, half of them evenly and half by their training events; items without events are never drawn.

    Args:
        counts_N: (items,) training events of each item.
        count: how many are drawn at a time, repeats included.
    """

    def __init__(self, counts_N: IntArray, count: int) -> None:
        even_N = (counts_N > 0) / max(1, (counts_N > 0).sum())
        self.count = count
        self.probability_N = (even_N + counts_N / max(1, counts_N.sum())) / 2
        cumulated_N = self.probability_N.cumsum()
        self._cumulated_N = cumulated_N / cumulated_N[-1]

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Return the items of one draw; an item is in it with probability 1 - (1 - p)^count."""
        items_Y = np.unique(self._cumulated_N.searchsorted(rng.random(self.count), side="right"))
        expected_Y = -np.expm1(self.count * np.log1p(-self.probability_N[items_Y]))
        return Drawn(items_Y=items_Y, log_expected_Y=np.log(expected_Y).astype(np.float32))
