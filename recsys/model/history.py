"""Encoders of histories: states that ask for the next item by cosines with item vectors.

Axes: B batch, T time, N item, D width, X item asked about.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.model.blocks import CausalEncoder
from recsys.model.config import ModelConfig


class HistoryEncoder(nn.Module):
    """Reads item vectors in time order after a learned start vector; knows the gaps and the calendar time of events.

    Item vectors are scaled up before the layers: unscaled, the layers drown the item at the start of training.
    """

    def __init__(self, shape: ModelConfig, *, dropout: float, input_dropout: float) -> None:
        super().__init__()
        self.input_scale = shape.input_scale
        self.start = nn.Parameter(torch.zeros(shape.width))
        self.input_dropout = nn.Dropout(input_dropout)
        self.encoder = CausalEncoder(shape.width, shape.heads, shape.layers, dropout, shape.max_history + 1)
        self.calendar_in = nn.Embedding(shape.calendar + 1, shape.width)
        self.calendar_out = nn.Embedding(shape.calendar + 1, shape.width)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))

    def forward(self, vectors_BTD: Tensor, timestamps_BT: Tensor, spans_BT: Tensor) -> Tensor:
        """Return the state after the start vector and after each item.

        Shape:
            vectors_BTD: (batch, time, width) vectors of the items, padding on the right.
            timestamps_BT: (batch, time) seconds; spans_BT: (batch, time) the span of the calendar.
            result: (batch, time + 1, width); entry t has seen the first t items.
        """
        x_BTD = self.input_scale * vectors_BTD + self.calendar_in(spans_BT)
        start_B1D = self.start.expand(len(x_BTD), 1, -1)
        first_B1 = timestamps_BT[:, :1] if timestamps_BT.shape[1] else timestamps_BT.new_zeros(len(x_BTD), 1)
        x_BTD = self.input_dropout(torch.cat([start_B1D, x_BTD], dim=1))
        states_BTD: Tensor = self.encoder(x_BTD, torch.cat([first_B1, timestamps_BT], dim=1))
        before_B1 = torch.full_like(first_B1, self.calendar_out.num_embeddings - 1)
        return states_BTD + self.calendar_out(torch.cat([before_B1, spans_BT], dim=1))

    def scaled(self, state_BD: Tensor) -> Tensor:
        """Return the state whose inner products with unit item vectors are item logits (cosine over temperature)."""
        return functional.normalize(state_BD, dim=-1) * self.log_scale.exp().clamp(max=50.0)

    def start_over(self) -> None:
        """Let the calendar say nothing yet."""
        nn.init.zeros_(self.calendar_in.weight)
        nn.init.zeros_(self.calendar_out.weight)


class SecondOpinion(nn.Module):
    """A plain Transformer over ids alone, trained on its own, whose logits are mixed into the item head's.

    Two encoders that learned apart err apart. This one has no codes and no memory to lean on, and positions instead of
    gaps between events.
    """

    def __init__(self, shape: ModelConfig, num_items: int) -> None:
        super().__init__()
        width = shape.width
        self.items = nn.Embedding(num_items, width)
        self.start = nn.Parameter(torch.zeros(width))
        self.positions = nn.Embedding(shape.max_history + 1, width)
        self.calendar_in = nn.Embedding(shape.calendar + 1, width)
        self.calendar_out = nn.Embedding(shape.calendar + 1, width)
        layer = nn.TransformerEncoderLayer(
            width,
            shape.second_heads,
            dim_feedforward=4 * width,
            dropout=shape.second_dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, shape.layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.dropout = nn.Dropout(shape.second_dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def start_over(self) -> None:
        """Draw the weights: the layers by Xavier's rule, small vectors, a calendar that says nothing yet."""
        for weight in self.layers.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        nn.init.zeros_(self.calendar_in.weight)
        nn.init.zeros_(self.calendar_out.weight)

    def states(self, items_BT: Tensor, spans_BT: Tensor) -> Tensor:
        """Return the state after the start vector and after each item, shape (batch, time + 1, width)."""
        length = items_BT.shape[1] + 1
        x_BTD = self.items(items_BT) * math.sqrt(self.items.embedding_dim) + self.calendar_in(spans_BT)
        x_BTD = torch.cat([self.start.expand(len(x_BTD), 1, -1), x_BTD], dim=1) + self.positions.weight[:length]
        mask_TT = nn.Transformer.generate_square_subsequent_mask(length, device=x_BTD.device)
        states_BTD: Tensor = self.layers(self.dropout(x_BTD), mask=mask_TT, is_causal=True)
        before_B1 = spans_BT.new_full((len(spans_BT), 1), self.calendar_out.num_embeddings - 1)
        return states_BTD + self.calendar_out(torch.cat([before_B1, spans_BT], dim=1))

    def scaled(self, state_BD: Tensor) -> Tensor:
        """Return the state whose inner products with unit item vectors are item logits."""
        return functional.normalize(state_BD, dim=-1) * self.log_scale.exp().clamp(max=50.0)

    def unit_items(self, items_X: Tensor | None = None) -> Tensor:
        """Return unit item vectors, all where none are named, shape (items, width)."""
        return functional.normalize(self.items.weight if items_X is None else self.items(items_X), dim=-1)
