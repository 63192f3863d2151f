"""TIGER (Rajput et al., arXiv 2305.05065): an encoder-decoder Transformer names the next item's semantic id.

What differs from the paper, so that a CPU can train it: the encoder is causal over items and the decoder reads it at
every position of a history, so one pass learns all next items of a history, where the paper encodes each prefix anew;
residual k-means stands in for the RQ-VAE; there is no user token; beams are held inside a trie, so that each is an
item that may be recommended. A learned start comes before a history's first item; from it alone the first item of
every run is learned, which is what an empty history is answered by.

Axes: B sequence, T item position, L token of an id, D width, N item, F feature, C code, V valid position, W beam,
X beam and code, P node of the trie's level.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from recsys.baselines.semantic_ids import semantic_ids
from recsys.baselines.tiger_network import Decoding, TIGERNetwork, TIGERNetworkConfig
from recsys.baselines.trie import Trie
from recsys.contracts import History, Request, Slate, eligible_items, requests_for, require_unsteered
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import read_config
from recsys.core.device import Device, pick_device
from recsys.core.ranking import MISS, ndcg_at
from recsys.core.seeds import derive_seed, rng_for
from recsys.data.events import EventLog
from recsys.data.splits import Questions
from recsys.sequence.training import TrainingConfig, train_best_epoch
from recsys.sequence.windows import Windows, pad

HISTORIES_PER_CALL = 64


class TIGERConfig(TIGERNetworkConfig, TrainingConfig):
    """Settings of the TIGER baseline."""

    levels: int = Field(default=3, ge=1)
    """Residual k-means levels of an id, before the token that differs between colliding items."""
    codes: int = Field(default=256, ge=1)
    """Codes of each level."""
    label_smoothing: float = 0.0
    """Share of each token's target spread over its level."""
    beams: int = Field(default=50, ge=1)
    """Beams kept at each token, or the call's longest slate where that is more."""
    validation_beams: int = Field(default=20, ge=10)
    """Beams while validating."""
    max_validation_users: int = 1000
    """Validate on at most so many users."""
    device: Device = "auto"
    """Where it trains and runs."""


class TIGER:
    """Ranks items by the probability that a beam search over their semantic ids gives them."""

    name = "tiger"

    def __init__(self, network: TIGERNetwork, ids_NL: IntArray, config: TIGERConfig) -> None:
        self.device = pick_device(config.device)
        self.network = network.to(self.device).eval()
        self.ids_NL = ids_NL
        self.trie = Trie(ids_NL, self.device)
        self.config = config

    @classmethod
    def fit(
        cls,
        log: EventLog,
        vectors_NF: FloatArray,
        config: TIGERConfig | None = None,
        *,
        seed: int = 0,
        validation: Questions | None = None,
    ) -> "TIGER":
        """Train on a training log and item vectors; with validation questions the best epoch by NDCG@10 is kept."""
        config = config or TIGERConfig()
        if len(vectors_NF) != log.num_items:
            raise ValueError(
                f"vectors must be one per item ({log.num_items}), got {len(vectors_NF)}; pass the catalogue's own"
            )
        ids_NL = semantic_ids(vectors_NF, levels=config.levels, codes=config.codes, seed=seed)
        device = pick_device(config.device)
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(seed, "tiger"))
            model = cls(TIGERNetwork(config, ids_NL), ids_NL, config)
            _train(model, Windows.of(log, config.max_length), seed=seed, validation=validation)
        return model

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return the best items that beam search finds for each request."""
        require_unsteered(requests, self.name)
        slates: list[Slate] = []
        for start in range(0, len(requests), HISTORIES_PER_CALL):
            batch = requests[start : start + HISTORIES_PER_CALL]
            allowed_BN = eligible_items(batch, len(self.ids_NL))
            beams = max(self.config.beams, *(request.n for request in batch))
            items_BW, scores_BW = self.search([request.history for request in batch], allowed_BN, beams)
            for request, items_W, scores_W in zip(batch, items_BW, scores_BW, strict=True):
                found = min(request.n, int((scores_W > -np.inf).sum()))
                slates.append(Slate(items=items_W[:found], scores=scores_W[:found]))
        return slates

    def search(self, histories: Sequence[History], allowed_BN: BoolArray, beams: int) -> tuple[IntArray, FloatArray]:
        """Return allowed items by beam search, best first, with their log-probabilities; a score of -inf is no item.

        Every kept prefix leads to an allowed item, so there are ``beams`` items wherever so many are allowed.

        Shape:
            allowed_BN: (histories, items).
            result: (histories, beams) twice.
        """
        trie, device = self.trie, self.device
        with torch.inference_mode():
            items_BT, lengths_B = pad([history.items[-self.config.max_length :] for history in histories])
            decoding = Decoding(self.network, items_BT.to(device), lengths_B.to(device))
            alive = trie.alive(torch.from_numpy(allowed_BN).to(device))
            node_BW = code_BW = torch.zeros((len(histories), 1), dtype=torch.long, device=device)
            score_BW = torch.zeros((len(histories), 1), device=device)
            for level, alive_BP in enumerate(alive):
                score_BWC = score_BW[:, :, None] + decoding.step(level, code_BW)
                child_BWC = trie.extend(level, node_BW, alive_BP)
                score_BX = score_BWC.masked_fill(child_BWC < 0, -math.inf).flatten(1)
                score_BW, pick_BW = score_BX.topk(min(beams, score_BX.shape[1]))
                parent_BW, code_BW = pick_BW // child_BWC.shape[2], pick_BW % child_BWC.shape[2]
                decoding.reorder(parent_BW, child_BWC.shape[1])
                node_BW = child_BWC.flatten(1).gather(1, pick_BW)
        return trie.item_R[node_BW].cpu().numpy(), score_BW.cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write the weights, the ids and the settings into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()},
            folder / "weights.safetensors",
        )
        np.save(folder / "ids.npy", self.ids_NL)
        write_json(folder / "config.json", self.config.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "TIGER":
        """Read what :meth:`save` wrote."""
        path = require(folder / "config.json", remedy="fit and save the TIGER baseline first")
        config = read_config(TIGERConfig, path)
        ids_NL: IntArray = np.load(folder / "ids.npy")
        network = TIGERNetwork(config, ids_NL)
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return cls(network, ids_NL, config)


def _train(model: TIGER, windows: Windows, *, seed: int, validation: Questions | None) -> None:
    config, network = model.config, model.network
    train_best_epoch(
        network,
        config,
        rng_for(seed, "tiger-batches"),
        lengths=windows.lengths_W,
        loss=lambda group, _: _loss(network, *windows.padded(group), config.label_smoothing),
        validate=None if validation is None else lambda: _validate(model, validation, seed=seed),
        name=model.name,
    )


def _loss(network: TIGERNetwork, items_BT: Tensor, lengths_B: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy of every item's tokens, summed over tokens, mean over items."""
    device = network.start.device
    valid_BT = (torch.arange(items_BT.shape[1]) < lengths_B[:, None]).to(device)
    items_BT = items_BT.to(device)
    hidden_VLD = network(items_BT)[valid_BT]
    tokens_VL = cast(Tensor, network.tokens_NL)[items_BT[valid_BT]]
    losses = [
        functional.cross_entropy(
            network.logits(hidden_VLD[:, level], level),
            tokens_VL[:, level] - network.offsets[level],
            label_smoothing=label_smoothing,
        )
        for level in range(network.length)
    ]
    return torch.stack(losses).sum()


def _validate(model: TIGER, validation: Questions, *, seed: int) -> float:
    """Return NDCG@10 of narrower beams, seen items removed, on a fixed sample of users."""
    users = len(validation.targets_U)
    sampled = rng_for(seed, "tiger-validation").permutation(users)[: model.config.max_validation_users]
    narrow = TIGER(
        model.network, model.ids_NL, model.config.model_copy(update={"beams": model.config.validation_beams})
    )
    slates = narrow.recommend(requests_for([validation.histories[u] for u in sampled.tolist()], n=10))
    places = [
        np.flatnonzero(slate.items == target)
        for slate, target in zip(slates, validation.targets_U[sampled], strict=True)
    ]
    ranks_U = np.array([place[0] + 1 if len(place) else MISS for place in places], np.int64)
    return float(ndcg_at(ranks_U, 10).sum()) / max(1, len(sampled))
