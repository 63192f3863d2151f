"""A causal Transformer over item ids alone.

It is SASRec's network with what later work found: scaled inputs, cosines, a softmax instead of one drawn negative
(eSASRec, arXiv 2508.06450). :mod:`recsys.sequence.id_training` trains it.

Axes: B sequence, T time, D width, N item, R training row (a position with a next item), X item to score.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recsys.contracts import History
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import read_config, require_heads_fit
from recsys.core.unit import unit_rows
from recsys.sequence.training import TrainingConfig
from recsys.sequence.windows import pad


class IdTransformerConfig(TrainingConfig):
    """The network's shape and its training."""

    width: PositiveInt = 128
    """Size of item vectors and hidden states."""
    layers: PositiveInt = 2
    """Transformer layers."""
    heads: PositiveInt = 2
    """Attention heads."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout on the inputs and inside every layer."""
    max_length: PositiveInt = 50
    """Number of latest events of a history that are read."""
    logits: Literal["cosine", "dot"] = "cosine"
    """Cosines times a learned scale, or plain dot products with the item vectors."""
    negatives: NonNegativeInt = 1024
    """Items drawn evenly for a batch's softmax beside its own targets; 0 takes all items."""
    epochs: NonNegativeInt = 40
    """Passes over the training log."""
    batch_positions: PositiveInt = 2048
    """Padded positions per batch."""
    learning_rate: PositiveFloat = 2e-3
    """Peak of the learning rate, after warm-up and before the cosine decay."""
    validate_every: PositiveInt = 5
    """Epochs between validations."""
    max_validation_users: PositiveInt = 2000
    """Validate on at most so many users."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        require_heads_fit(self.width, self.heads)
        return self


Settings = TypeVar("Settings", bound=IdTransformerConfig)


class IdTransformer(nn.Module):
    """Pre-norm causal Transformer with learned positions and tied item vectors."""

    def __init__(self, config: IdTransformerConfig, num_items: int) -> None:
        super().__init__()
        self.cosine = config.logits == "cosine"
        self.items = nn.Embedding(num_items, config.width)
        self.positions = nn.Embedding(config.max_length, config.width)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            dim_feedforward=4 * config.width,
            dropout=config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(config.width)
        self.layers = nn.TransformerEncoder(layer, config.layers, norm=norm, enable_nested_tensor=False)
        for weight in self.layers.parameters():
            if weight.dim() > 1:  # the encoder copies one layer, which would start all layers equal
                nn.init.xavier_uniform_(weight)
        self.dropout = nn.Dropout(config.dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(self, items_BT: Tensor) -> Tensor:
        """Return the hidden state after each position; padding stands right, so causality hides it.

        Shape:
            items_BT: (sequences, positions) -> (sequences, positions, width).
        """
        length = items_BT.shape[1]
        scaled_BTD = self.items(items_BT) * math.sqrt(self.items.embedding_dim)  # else the layers' output outweighs it
        inputs_BTD = self.dropout(scaled_BTD + self.positions.weight[:length])
        mask_TT = nn.Transformer.generate_square_subsequent_mask(length, device=items_BT.device)
        hidden_BTD: Tensor = self.layers(inputs_BTD, mask=mask_TT, is_causal=True)
        return hidden_BTD

    def prefix_states(self, items_BT: Tensor) -> Tensor:
        """Return the state after each prefix: zeros before the first item, then the hidden states.

        Shape:
            result: (sequences, positions + 1, width); entry t has seen the first t items.
        """
        before_B1D = self.items.weight.new_zeros(len(items_BT), 1, self.items.embedding_dim)
        return torch.cat([before_B1D, self(items_BT)], dim=1) if items_BT.shape[1] else before_B1D

    def queries(self, hidden_RD: Tensor) -> Tensor:
        """Return the vectors whose inner products with :meth:`keys` are item logits."""
        return self.log_scale.exp() * unit_rows(hidden_RD) if self.cosine else hidden_RD

    def keys(self, items_X: Tensor | None = None) -> Tensor:
        """Return the vectors of items, of all where none are given, that queries are compared with."""
        weight_XD = self.items.weight if items_X is None else self.items(items_X)
        return unit_rows(weight_XD) if self.cosine else weight_XD

    def logits(self, hidden_RD: Tensor, items_X: Tensor | None = None) -> Tensor:
        """Score items from hidden states.

        Shape:
            hidden_RD: (positions, width).
            items_X: the items to score; all where none are given.
            result: (positions, scored items).
        """
        return self.queries(hidden_RD) @ self.keys(items_X).T

    def own_logits(self, hidden_RD: Tensor, items_R: Tensor) -> Tensor:
        """Score one item for each hidden state, shape (positions,)."""
        weight_RD = self.items(items_R)
        if not self.cosine:
            return (hidden_RD * weight_RD).sum(-1)
        return self.log_scale.exp() * functional.cosine_similarity(hidden_RD, weight_RD, dim=-1)

    def save(self, folder: Path, config: IdTransformerConfig) -> None:
        """Write the weights and the settings into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
        write_json(folder / "config.json", config.model_dump())

    @classmethod
    def load(cls, folder: Path, settings: type[Settings]) -> "tuple[IdTransformer, Settings]":
        """Read what :meth:`save` wrote, with settings of the kind it was saved with.

        Raises:
            ArtifactError: there is nothing.
        """
        path = require(folder / "config.json", remedy="fit and save the network first")
        config = read_config(settings, path)
        weights = load_file(folder / "weights.safetensors")
        network = cls(config, len(weights["items.weight"]))
        network.load_state_dict(weights)
        return network, config


def score_histories(network: IdTransformer, config: IdTransformerConfig, histories: Sequence[History]) -> FloatArray:
    """Return every item's logit after each history, all 0 after an empty one, shape (histories, items)."""
    device = network.log_scale.device
    items_BT, lengths_B = pad([history.items[-config.max_length :] for history in histories])
    with torch.inference_mode():
        states_BD = network.prefix_states(items_BT.to(device))[torch.arange(len(histories)), lengths_B]
        scores_BN: FloatArray = network.logits(states_BD).float().cpu().numpy()
    return scores_BN
