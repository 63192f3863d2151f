"""The items that a training batch computes vectors for: all, or in a large catalogue the batch's own and drawn ones.

A sampled softmax is the exact one over such a shortlist, with the log of each drawn item's expected number of draws
taken off its logit (logQ correction, Bengio and Senecal 2008), so that the expected normaliser is that of all items.

Axes: X item of the shortlist, N item, Y drawn item.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.core.arrays import IntArray
from recsys.sequence.negatives import Drawn


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """Items in ascending order, and what is taken off their logits.

    Shape:
        items_X: (shortlist,) catalogue indices.
        correction_X: (shortlist,) log of an item's expected number of draws; infinity where it was not drawn, which
            leaves it out of every row's softmax but that of which it is the target.
    """

    items_X: Tensor
    correction_X: Tensor

    @classmethod
    def of(cls, own: IntArray, drawn: Drawn, device: torch.device) -> "Shortlist":
        """Return a batch's own items, of any shape and with repeats, and the drawn ones."""
        items_X = np.union1d(own, drawn.items_Y)
        correction_X = np.full(len(items_X), np.inf, np.float32)
        correction_X[np.searchsorted(items_X, drawn.items_Y)] = drawn.log_expected_Y
        return cls(items_X=torch.from_numpy(items_X).to(device), correction_X=torch.from_numpy(correction_X).to(device))

    def places(self, items: Tensor) -> Tensor:
        """Return where items stand in the shortlist, -1 where they do not; of the same shape."""
        place = torch.searchsorted(self.items_X, items.contiguous()).clamp(max=len(self.items_X) - 1)
        return torch.where(self.items_X[place] == items, place, -1)
