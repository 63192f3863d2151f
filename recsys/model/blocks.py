"""Building blocks of the generator: the causal encoder with time-gap bias.

Axes: B batch row, T time, H head, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

GAP_BUCKETS = 32
"""Time gaps are bucketed by the logarithm of their hours: bucket 31 holds anything beyond 2**15 hours."""


def gap_buckets(timestamps_BT: Tensor) -> Tensor:
    """Bucket the time between every pair of events: two buckets per doubling of the gap in hours.

    Shape:
        timestamps_BT: (batch, time), int64 seconds.
        result: (batch, time, time), int64 in 0..31.
    """
    hours_BTT = (timestamps_BT[:, :, None] - timestamps_BT[:, None, :]).abs().float() / 3600
    return (2 * torch.log2(1 + hours_BTT)).long().clamp(max=GAP_BUCKETS - 1)


class CausalBlock(nn.Module):
    """Pre-norm self-attention and feed-forward, with an additive attention bias."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.residual_dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, bias_BHTT: Tensor) -> Tensor:
        """Return the block's output, shape (batch, time, width)."""
        batch, time, width = x_BTD.shape
        qkv = self.qkv(self.norm_attention(x_BTD)).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias_BHTT, dropout_p=self.dropout if self.training else 0.0
        )
        x_BTD = x_BTD + self.residual_dropout(self.out(attended.transpose(1, 2).reshape(batch, time, width)))
        return x_BTD + self.residual_dropout(self.feed(self.norm_feed(x_BTD)))


class CausalEncoder(nn.Module):
    """A stack of causal blocks whose attention has learned biases per head for positions and time gaps."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.position_bias = nn.Embedding(max_length, heads)
        self.gap_bias = nn.Embedding(GAP_BUCKETS, heads)
        self.blocks = nn.ModuleList(CausalBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.position_bias.weight)
        nn.init.zeros_(self.gap_bias.weight)

    def forward(self, x_BTD: Tensor, timestamps_BT: Tensor) -> Tensor:
        """Encode every prefix in one pass: output t has seen inputs 0..t only.

        Shape:
            x_BTD: (batch, time, width), padding on the right.
            timestamps_BT: (batch, time), int64 seconds.
            result: (batch, time, width).
        """
        steps_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        back_TT = steps_T[:, None] - steps_T[None, :]
        bias_BTTH = self.gap_bias(gap_buckets(timestamps_BT))
        bias_BTTH = bias_BTTH + self.position_bias(back_TT.clamp(0, self.max_length - 1))
        future_TT = back_TT < 0
        bias_BHTT = bias_BTTH.permute(0, 3, 1, 2).masked_fill(future_TT, float("-inf"))
        for block in self.blocks:
            x_BTD = block(x_BTD, bias_BHTT)
        return self.norm(x_BTD)
