"""TIGER's network: an encoder over a history's tokens, causal by items, and a decoder over one more item's tokens.

Axes: B sequence, T item position, L token of an id, S memory position (the start, then L tokens per item), Q query,
K key, H head, E width of one head, D width, N item, C code, V valid position, W beam, X sequence and item or beam.
"""

import math
from typing import cast

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from recsys.core.arrays import IntArray
from recsys.core.config import Config, require_heads_fit

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one attention, (sequences, heads, keys, width of one head) each."""


class TIGERNetworkConfig(Config):
    """Shape of the TIGER network."""

    width: PositiveInt = 128
    """Size of token vectors and hidden states."""
    layers: PositiveInt = 2
    """Transformer layers of the encoder, and as many of the decoder."""
    heads: PositiveInt = 4
    """Attention heads."""
    feed_width: PositiveInt = 512
    """Hidden size of the feed-forward layers."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the inputs and on what each layer adds."""
    max_length: int = Field(default=20, ge=1)
    """The last so many events of a history are read."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TIGERNetworkConfig":
        require_heads_fit(self.width, self.heads)
        return self


class Attention(nn.Module):
    """Multi-head attention; keys and values may be of another sequence, or of earlier calls."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_and_values(self, x_BKD: Tensor) -> KeysValues:
        """Return the keys and values of the positions that are attended to."""
        batch, length, _ = x_BKD.shape
        return cast(KeysValues, self.keys_values(x_BKD).view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4))

    def forward(self, x_BQD: Tensor, memory: KeysValues, bias: Tensor | None) -> Tensor:
        """Return what each query attends to; a bias broadcasts to (sequences, heads, queries, keys)."""
        batch, length, width = x_BQD.shape
        q_BHQE = self.queries(x_BQD).view(batch, length, self.heads, -1).transpose(1, 2)
        found_BHQE = functional.scaled_dot_product_attention(q_BHQE, *memory, attn_mask=bias)
        return cast(Tensor, self.out(found_BHQE.transpose(1, 2).reshape(batch, length, width)))


class Block(nn.Module):
    """An encoder layer: pre-norm self-attention and feed-forward."""

    def __init__(self, config: TIGERNetworkConfig) -> None:
        super().__init__()
        self.norm_own = nn.LayerNorm(config.width)
        self.own = Attention(config.width, config.heads)
        self.norm_feed = nn.LayerNorm(config.width)
        self.feed = nn.Sequential(
            nn.Linear(config.width, config.feed_width), nn.ReLU(), nn.Linear(config.feed_width, config.width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def attend(self, x_BQD: Tensor, bias: Tensor | None, past: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """Add self-attention, also to the past; return the sum, and the keys and values so far."""
        normed_BQD = self.norm_own(x_BQD)
        k_BHKE, v_BHKE = self.own.keys_and_values(normed_BQD)
        if past is not None:
            k_BHKE, v_BHKE = torch.cat([past[0], k_BHKE], 2), torch.cat([past[1], v_BHKE], 2)
        return x_BQD + self.dropout(self.own(normed_BQD, (k_BHKE, v_BHKE), bias)), (k_BHKE, v_BHKE)

    def feed_forward(self, x_BQD: Tensor) -> Tensor:
        """Add the feed-forward layer."""
        return x_BQD + self.dropout(self.feed(self.norm_feed(x_BQD)))


class DecoderBlock(Block):
    """A decoder layer: an encoder layer that also attends to the memory."""

    def __init__(self, config: TIGERNetworkConfig) -> None:
        super().__init__(config)
        self.norm_cross = nn.LayerNorm(config.width)
        self.cross = Attention(config.width, config.heads)

    def attend_to_memory(self, x_BQD: Tensor, memory: KeysValues, bias: Tensor) -> Tensor:
        """Add cross-attention to the memory."""
        return x_BQD + self.dropout(self.cross(self.norm_cross(x_BQD), memory, bias))


class TIGERNetwork(nn.Module):
    """Encoder over a history's tokens, causal by items, and decoder over the tokens of one more item per position."""

    def __init__(self, config: TIGERNetworkConfig, ids_NL: IntArray) -> None:
        super().__init__()
        self.length = ids_NL.shape[1]
        self.sizes = [int(size) for size in ids_NL.max(axis=0) + 1]
        self.offsets = [0, *np.cumsum(self.sizes).tolist()]
        self.register_buffer("tokens_NL", torch.from_numpy(ids_NL + np.array(self.offsets[:-1])), persistent=False)
        self.tokens = nn.Embedding(self.offsets[-1], config.width)
        self.start = nn.Parameter(torch.empty(config.width))
        self.begin = nn.Parameter(torch.empty(config.width))
        self.own_back = nn.Embedding(config.max_length + 1, config.heads)
        self.cross_back = nn.Embedding(config.max_length + 2, config.heads)
        self.encoder = cast(list[Block], nn.ModuleList(Block(config) for _ in range(config.layers)))
        self.decoder = cast(list[DecoderBlock], nn.ModuleList(DecoderBlock(config) for _ in range(config.layers)))
        self.encoder_norm = nn.LayerNorm(config.width)
        self.decoder_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        for vectors in (self.tokens.weight, self.start, self.begin):
            nn.init.normal_(vectors, std=config.width**-0.5)  # logits start with unit variance
        for table in (self.own_back, self.cross_back):
            nn.init.zeros_(table.weight)

    def encode(self, items_BT: Tensor) -> Tensor:
        """Return the memory; a token's state has seen the start, its own item and earlier items.

        Shape:
            items_BT: (sequences, items), may have no items; padding on the right.
            result: (sequences, 1 + tokens, width).
        """
        inputs_BTLD = self.tokens(cast(Tensor, self.tokens_NL)[items_BT])
        start_B1D = self.start.expand(len(items_BT), 1, -1)
        x_BSD = self.dropout(torch.cat([start_B1D, inputs_BTLD.flatten(1, 2)], 1))
        place_S = self.places(items_BT.shape[1])
        bias_HSS = _bias(self.own_back, place_S[:, None] - place_S, nearest=0)
        for block in self.encoder:
            x_BSD = block.feed_forward(block.attend(x_BSD, bias_HSS)[0])
        return cast(Tensor, self.encoder_norm(x_BSD))

    def places(self, length: int) -> Tensor:
        """Return each memory position's place in its history: 0 the start, then one per item.

        Shape:
            result: (1 + items * tokens,).
        """
        return functional.pad(
            torch.arange(1, length + 1, device=self.start.device).repeat_interleave(self.length), (1, 0)
        )

    def forward(self, items_BT: Tensor) -> Tensor:
        """Return the hidden states that name every item of the sequences from the items before it.

        Shape:
            items_BT: (sequences, items) -> (sequences, items, tokens, width); state l names token l.
        """
        batch, length = items_BT.shape
        memory_BSD = self.encode(items_BT[:, :-1])
        named_BTLD = self.tokens(cast(Tensor, self.tokens_NL)[items_BT][:, :, :-1])
        begin_BT1D = self.begin.expand(batch, length, 1, -1)
        x_BTLD = self.dropout(torch.cat([begin_BT1D, named_BTLD], 2))
        target_Q = torch.arange(1, length + 1, device=self.start.device).repeat_interleave(self.length)
        cross_HQS = _bias(self.cross_back, target_Q[:, None] - self.places(length - 1), nearest=1)
        own_LL = nn.Transformer.generate_square_subsequent_mask(self.length, device=self.start.device)
        for block in self.decoder:
            own_XLD, _ = block.attend(x_BTLD.view(batch * length, self.length, -1), own_LL)
            x_BQD = own_XLD.view(batch, length * self.length, -1)
            x_BQD = block.feed_forward(
                block.attend_to_memory(x_BQD, block.cross.keys_and_values(memory_BSD), cross_HQS)
            )
            x_BTLD = x_BQD.view(batch, length, self.length, -1)
        return cast(Tensor, self.decoder_norm(x_BTLD))

    def logits(self, hidden_VD: Tensor, level: int) -> Tensor:
        """Score a token's codes from the states that name it.

        Shape:
            hidden_VD: (positions, width) -> (positions, codes of the level).
        """
        return hidden_VD @ self.tokens.weight[self.offsets[level] : self.offsets[level + 1]].T


def _bias(table: nn.Embedding, back_QK: Tensor, *, nearest: int) -> Tensor:
    """Return learned biases by distance in items, minus infinity where a key is nearer than ``nearest``.

    Shape:
        back_QK: (..., queries, keys) how many items a key is behind a query.
        result: (..., heads, queries, keys).
    """
    bias_HQK = table(back_QK.clamp(0, table.num_embeddings - 1)).movedim(-1, -3)
    return bias_HQK.masked_fill((back_QK < nearest).unsqueeze(-3), -math.inf)


class Decoding:
    """A batch of histories while their next items are named: the memory is kept once per history, not per beam."""

    def __init__(self, network: TIGERNetwork, items_BT: Tensor, lengths_B: Tensor) -> None:
        self.network = network
        memory_BSD = network.encode(items_BT)
        self.memory = [block.cross.keys_and_values(memory_BSD) for block in network.decoder]
        back_B1S = (lengths_B[:, None] + 1 - network.places(items_BT.shape[1]))[:, None, :]
        self.bias_BH1S = _bias(network.cross_back, back_B1S, nearest=1)
        self.past: list[KeysValues | None] = [None] * len(network.decoder)

    def step(self, level: int, code_BW: Tensor) -> Tensor:
        """Return the log-probabilities of the beams' next token, after the codes chosen at the level before.

        Shape:
            code_BW: (histories, beams) -> (histories, beams, codes); at level 0 one beam, whose code is not read.
        """
        network, (batch, beams) = self.network, code_BW.shape
        if level == 0:
            x_BWD = network.begin.expand(batch, beams, -1)
        else:
            x_BWD = network.tokens(code_BW + network.offsets[level - 1])
        for number, block in enumerate(network.decoder):
            newest_X1D = x_BWD.reshape(batch * beams, 1, -1)
            own_X1D, self.past[number] = block.attend(newest_X1D, None, self.past[number])
            x_BWD = block.attend_to_memory(own_X1D.view(batch, beams, -1), self.memory[number], self.bias_BH1S)
            x_BWD = block.feed_forward(x_BWD)
        return network.logits(network.decoder_norm(x_BWD), level).float().log_softmax(-1)

    def reorder(self, parent_BW: Tensor, beams: int) -> None:
        """Take over the keys and values of each new beam's parent.

        Args:
            parent_BW: which beam each new one continues.
            beams: how many beams there were.

        Shape:
            parent_BW: (histories, beams to come).
        """
        row_X = (torch.arange(len(parent_BW), device=parent_BW.device)[:, None] * beams + parent_BW).flatten()
        self.past = [(past[0][row_X], past[1][row_X]) for past in self.past if past is not None]
