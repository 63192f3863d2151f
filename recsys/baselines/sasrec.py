"""SASRec trained with a softmax over items: a causal Transformer over item ids alone.

With the plain binary loss of its paper SASRec is a weak rival; with a softmax, over all items or over sampled ones, it
beats most generative models (eSASRec, arXiv 2508.06450).

Axes: B sequence, T position, D width, N item, V valid position.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recsys.baselines.slates import slates_from_scores
from recsys.baselines.training import TrainingConfig, pad, train_best_epoch, windows
from recsys.contracts import History, Slate
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.device import Device, pick_device
from recsys.core.seeds import derive_seed, rng_for
from recsys.data.events import EventLog
from recsys.data.splits import Questions

HISTORIES_PER_CALL = 256


class SASRecConfig(TrainingConfig):
    """Settings of the SASRec baseline."""

    width: int = 128
    """Size of item vectors and hidden states."""
    layers: int = 2
    """Transformer layers."""
    heads: int = 2
    """Attention heads."""
    dropout: float = 0.5
    """Dropout on the inputs and inside every layer."""
    max_length: int = 50
    """The last so many events of a history are read."""
    logits: Literal["cosine", "dot"] = "cosine"
    """Cosines times a learned scale, or plain dot products with the item vectors."""
    negatives: int = 1024
    """Items drawn evenly for a batch's softmax beside its own targets; 0 takes all items."""
    epochs: int = 40
    """Passes over the training log."""
    batch_positions: int = 2048
    """Padded positions per batch."""
    learning_rate: float = 2e-3
    """Peak of the learning rate, after warm-up and before the cosine decay."""
    validate_every: int = 5
    """Epochs between validations."""
    max_validation_users: int = 2000
    """Validate on at most so many users."""
    device: Device = "auto"
    """Where it trains and runs."""


class SASRecNetwork(nn.Module):
    """Pre-norm causal Transformer with learned positions and tied item vectors."""

    def __init__(self, config: SASRecConfig, num_items: int) -> None:
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
        scaled_BTD = self.items(items_BT) * math.sqrt(self.items.embedding_dim)  # else the layers drown the item out
        inputs_BTD = self.dropout(scaled_BTD + self.positions.weight[:length])
        mask_TT = nn.Transformer.generate_square_subsequent_mask(length, device=items_BT.device)
        hidden_BTD: Tensor = self.layers(inputs_BTD, mask=mask_TT, is_causal=True)
        return hidden_BTD

    def logits(self, hidden_VD: Tensor, items_X: Tensor | None = None) -> Tensor:
        """Score items from hidden states.

        Shape:
            hidden_VD: (positions, width).
            items_X: the items to score; all where none are given.
            result: (positions, scored items).
        """
        weight_XD = self.items.weight if items_X is None else self.items(items_X)
        if not self.cosine:
            return hidden_VD @ weight_XD.T
        unit_VD = functional.normalize(hidden_VD, dim=-1)
        return self.log_scale.exp() * unit_VD @ functional.normalize(weight_XD, dim=-1).T

    def own_logits(self, hidden_VD: Tensor, items_V: Tensor) -> Tensor:
        """Score one item for each hidden state, shape (positions,)."""
        weight_VD = self.items(items_V)
        if not self.cosine:
            return (hidden_VD * weight_VD).sum(-1)
        return self.log_scale.exp() * functional.cosine_similarity(hidden_VD, weight_VD, dim=-1)


class SASRec:
    """Ranks items by the softmax of a causal Transformer; an empty history gets the training counts."""

    name = "sasrec"

    def __init__(self, network: SASRecNetwork, counts_N: FloatArray, config: SASRecConfig) -> None:
        self.device = pick_device(config.device)
        self.network = network.to(self.device).eval()
        self.counts_N = counts_N
        self.config = config

    @classmethod
    def fit(
        cls,
        log: EventLog,
        config: SASRecConfig | None = None,
        *,
        seed: int = 0,
        validation: Questions | None = None,
    ) -> "SASRec":
        """Train on a training log; with validation questions the epoch with the best NDCG@10 is kept."""
        config = config or SASRecConfig()
        counts_N = np.bincount(log.items_E, minlength=log.num_items).astype(np.float32)
        device = pick_device(config.device)
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(seed, "sasrec"))
            model = cls(SASRecNetwork(config, log.num_items), counts_N, config)
            _train(model, windows(log, config.max_length), seed=seed, validation=validation)
        return model

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return every item's logit for each history.

        Shape:
            result: (histories, items); an empty history's row holds the training counts.
        """
        scores_BN = np.tile(self.counts_N, (len(histories), 1))
        known_B = np.flatnonzero([len(history.items) > 0 for history in histories])
        if not len(known_B):
            return scores_BN
        items_BT, lengths_B = pad([histories[b].items[-self.config.max_length :] for b in known_B.tolist()])
        with torch.inference_mode():
            hidden_BTD = self.network(items_BT.to(self.device))
            last_BD = hidden_BTD[torch.arange(len(known_B)), lengths_B - 1]
            scores_BN[known_B] = self.network.logits(last_BD).float().cpu().numpy()
        return scores_BN

    def recommend(
        self,
        histories: Sequence[History],
        *,
        n: int,
        keep_seen: bool = False,
        eligible_N: BoolArray | None = None,
    ) -> list[Slate]:
        """Return the likeliest next items for each history.

        Shape:
            eligible_N: (items,) True where an item may be recommended.
        """
        slates: list[Slate] = []
        for start in range(0, len(histories), HISTORIES_PER_CALL):
            batch = histories[start : start + HISTORIES_PER_CALL]
            slates += slates_from_scores(self.scores(batch), batch, n, keep_seen, eligible_N)
        return slates

    def save(self, folder: Path) -> None:
        """Write the weights, the counts and the settings into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()},
            folder / "weights.safetensors",
        )
        np.save(folder / "counts.npy", self.counts_N)
        write_json(folder / "config.json", self.config.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "SASRec":
        """Read what :meth:`save` wrote."""
        path = require(folder / "config.json", remedy="fit and save the SASRec baseline first")
        config = SASRecConfig.model_validate_json(path.read_text())
        counts_N: FloatArray = np.load(folder / "counts.npy")
        network = SASRecNetwork(config, len(counts_N))
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return cls(network, counts_N, config)


def _train(model: SASRec, runs: list[IntArray], *, seed: int, validation: Questions | None) -> None:
    config, network, rng = model.config, model.network, rng_for(seed, "sasrec-batches")

    def loss(group: IntArray) -> Tensor:
        return next_item_loss(network, [runs[b] for b in group], model.device, rng, config.negatives)

    train_best_epoch(
        network,
        config,
        rng,
        lengths=np.array([len(run) - 1 for run in runs]),
        loss=loss,
        validate=None if validation is None else lambda: _validate(model, validation, seed=seed),
    )


def next_item_loss(
    network: SASRecNetwork, runs: Sequence[IntArray], device: torch.device, rng: np.random.Generator, negatives: int
) -> Tensor:
    """Return the mean cross-entropy of every valid position's next item, against all items or drawn ones."""
    items_BT, lengths_B = pad(runs)
    items_BT = items_BT.to(device)
    valid_BT = (torch.arange(items_BT.shape[1] - 1) < (lengths_B - 1)[:, None]).to(device)
    hidden_VD, targets_V = network(items_BT[:, :-1])[valid_BT], items_BT[:, 1:][valid_BT]
    num_items = len(network.items.weight)
    if not 0 < negatives < num_items:
        return functional.cross_entropy(network.logits(hidden_VD), targets_V)
    drawn_X = torch.from_numpy(rng.choice(num_items, negatives, replace=False)).to(device)
    logits_VX = network.logits(hidden_VD, drawn_X).masked_fill(targets_V[:, None] == drawn_X, float("-inf"))
    own_V1 = network.own_logits(hidden_VD, targets_V)[:, None]
    first_V = torch.zeros(len(targets_V), dtype=torch.long, device=device)
    return functional.cross_entropy(torch.cat([own_V1, logits_VX], dim=1), first_V)


def _validate(model: SASRec, validation: Questions, *, seed: int) -> float:
    """Return NDCG@10 with seen items removed and ties ranked against the model, on a fixed sample of users."""
    users = len(validation.targets_U)
    asked = rng_for(seed, "sasrec-validation").permutation(users)[: model.config.max_validation_users]
    total = 0.0
    for start in range(0, len(asked), HISTORIES_PER_CALL):
        batch = asked[start : start + HISTORIES_PER_CALL]
        histories = [validation.histories[u] for u in batch.tolist()]
        for scores_N, history, target in zip(
            model.scores(histories), histories, validation.targets_U[batch], strict=True
        ):
            wanted = scores_N[target]
            scores_N[history.items] = -np.inf
            rank = int((scores_N >= wanted).sum())
            total += 1 / math.log2(rank + 1) if target not in history.items and rank <= 10 else 0.0
    return total / max(1, len(asked))
