"""The history encoder: a causal Transformer over item vectors, time gaps and calendar time.

Axes: B batch row, T time, N item, D width, E event.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.core.arrays import IntArray
from recsys.model.blocks import CausalEncoder
from recsys.model.config import ModelConfig

_FAR_FUTURE = torch.iinfo(torch.int64).max


class HistoryEncoder(nn.Module):
    """Reads a start vector, then one vector an item, so one pass trains every position of a history."""

    calendar_edges: Tensor

    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        self.shape = shape
        self.input_dropout = nn.Dropout(shape.dropout / 2)
        self.blocks = CausalEncoder(shape.width, shape.heads, shape.layers, shape.dropout, shape.max_history + 1)
        self.calendar_in = nn.Embedding(shape.calendar + 1, shape.width)
        self.calendar_out = nn.Embedding(shape.calendar + 1, shape.width)
        self.register_buffer("calendar_edges", torch.full((shape.calendar - 1,), _FAR_FUTURE))

    @torch.no_grad()
    def set_calendar(self, timestamps_E: IntArray) -> None:
        """Cut time into spans that hold equal numbers of training events."""
        edges = np.quantile(timestamps_E, np.linspace(0, 1, self.shape.calendar + 1)[1:-1], method="lower")
        self.calendar_edges.copy_(torch.from_numpy(edges))

    def forward(self, items_BT: Tensor, timestamps_BT: Tensor, vectors_ND: Tensor, start_D: Tensor) -> Tensor:
        """Return the state after the start vector and after each item.

        Shape:
            items_BT: (batch, time) rows of ``vectors_ND``, padding (any row) on the right.
            timestamps_BT: (batch, time) seconds.
            vectors_ND: (items, width) of the item encoder.
            start_D: (width,) what is read before the first item.
            result: (batch, time + 1, width); entry t has seen the first t items.
        """
        spans_BT = torch.bucketize(timestamps_BT.contiguous(), self.calendar_edges)
        x_BTD = self.shape.input_scale * functional.embedding(items_BT, vectors_ND) + self.calendar_in(spans_BT)
        start_B1D = start_D.expand(len(items_BT), 1, -1)
        first_B1 = timestamps_BT[:, :1] if timestamps_BT.shape[1] else timestamps_BT.new_zeros(len(items_BT), 1)
        x_BTD = self.input_dropout(torch.cat([start_B1D, x_BTD], dim=1))
        states_BTD: Tensor = self.blocks(x_BTD, torch.cat([first_B1, timestamps_BT], dim=1))
        before_B1 = torch.full_like(first_B1, self.shape.calendar)
        return states_BTD + self.calendar_out(torch.cat([before_B1, spans_BT], dim=1))
