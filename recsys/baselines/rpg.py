"""RPG's scoring (Hou et al., arXiv 2506.05781): an item's score is the mean log-probability of its unordered codes.

A causal Transformer reads items as the mean of their codes' vectors; a head for each codebook predicts the next item's
code in it, by cosine over a temperature, trained by the mean cross-entropy of the codebooks. What differs from the
paper: all next items of a history are learned in one pass; all items are scored, where the paper walks a graph of
items; the network is :mod:`recsys.sequence.id_transformer`.

Axes: B sequence, T time, D width, N item, M codebook, K code, R training row (a position with a next item).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recsys.baselines.slates import slates_from_scores
from recsys.contracts import History, Request, Slate
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import read_config
from recsys.core.device import Device, pick_device
from recsys.core.seeds import derive_seed, rng_for
from recsys.data.events import EventLog
from recsys.data.splits import Questions
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig
from recsys.sequence.training import train_best_epoch
from recsys.sequence.validation import mean_ndcg
from recsys.sequence.windows import Windows, pad

_BATCH = 256


class RPGConfig(IdTransformerConfig):
    """Settings of the RPG baseline."""

    codebook_size: int = Field(default=256, ge=1)
    """Codes of every codebook."""
    temperature: float = Field(default=0.07, gt=0)
    """Cosines are divided by it."""
    dropout: float = 0.3
    """Dropout on the inputs and inside every layer."""
    device: Device = "auto"
    """Where it trains and runs."""


class _CodeMeans(nn.Module):
    """Items as the mean of their codes' vectors, in place of a table of items."""

    token_NM: Tensor

    def __init__(self, token_NM: Tensor, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding_dim = width
        self.codes = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.register_buffer("token_NM", token_NM)

    @property
    def weight(self) -> Tensor:
        """The vectors of all items, (items, width)."""
        return functional.embedding_bag(self.token_NM, self.codes, mode="mean")

    def forward(self, items_BT: Tensor) -> Tensor:
        """Return the vectors of items, (sequences, positions, width)."""
        return functional.embedding(items_BT, self.weight)


class RPGNetwork(IdTransformer):
    """The Transformer over mean code vectors, and a head for each codebook."""

    items: _CodeMeans  # type: ignore[assignment]

    def __init__(self, config: RPGConfig, codes_NM: IntArray) -> None:
        super().__init__(config, 1)
        books, size = codes_NM.shape[1], config.codebook_size
        if not 0 <= codes_NM.min(initial=0) <= codes_NM.max(initial=0) < size:
            raise ValueError(
                f"codes must be from 0 to {size - 1}, got {codes_NM.min()} to {codes_NM.max()}; set codebook_size to "
                "that of the tokenizer that made them"
            )
        token_NM = torch.from_numpy(codes_NM + np.arange(books) * size)
        self.items = _CodeMeans(token_NM, books * size, config.width)
        self.heads_MDD = nn.Parameter(torch.eye(config.width).repeat(books, 1, 1))
        self.shape, self.temperature = (books, size, config.width), config.temperature

    def code_log_probs(self, hidden_RD: Tensor) -> Tensor:
        """Return the log-probability of every code of every codebook after hidden states, (rows, codebooks, codes)."""
        asked_RMD = torch.einsum("rd,mde->rme", hidden_RD, self.heads_MDD)
        codes_MKD = functional.normalize(self.items.codes.view(self.shape), dim=-1)
        cosine_RMK = torch.einsum("rmd,mkd->rmk", functional.normalize(asked_RMD, dim=-1), codes_MKD)
        return functional.log_softmax(cosine_RMK / self.temperature, dim=-1)

    def loss(self, items_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the mean cross-entropy of the codes of every valid position's next item."""
        items_BT = items_BT.to(self.log_scale.device)
        valid_BT = torch.arange(items_BT.shape[1] - 1) < (lengths_B - 1)[:, None]
        rows = valid_BT.to(items_BT.device)
        log_prob_RMK = self.code_log_probs(self(items_BT[:, :-1])[rows])
        first_M = torch.arange(self.shape[0], device=items_BT.device) * self.shape[1]
        code_RM = self.items.token_NM[items_BT[:, 1:][rows]] - first_M
        return -log_prob_RMK.gather(2, code_RM[..., None]).mean()


class RPG:
    """Ranks items by the mean log-probability of their codes; an empty history gets the training counts."""

    name = "rpg"

    def __init__(self, network: RPGNetwork, counts_N: FloatArray, config: RPGConfig) -> None:
        self.network = network.to(pick_device(config.device)).eval()
        self.counts_N, self.config = counts_N, config

    @classmethod
    def fit(
        cls,
        log: EventLog,
        codes_NM: IntArray,
        config: RPGConfig | None = None,
        *,
        seed: int = 0,
        validation: Questions | None = None,
    ) -> "RPG":
        """Train on a training log and items' codes; with validation questions the best epoch by NDCG@10 is kept."""
        config = config or RPGConfig()
        device, rng = pick_device(config.device), rng_for(seed, "rpg-batches")
        windows = Windows.of(log, config.max_length)
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(seed, cls.name))
            made = cls(RPGNetwork(config, codes_NM), log.counts_N.astype(np.float32), config)
            queries = None if validation is None else validation.sample(config.max_validation_users, seed=seed)
            train_best_epoch(
                made.network,
                config,
                rng,
                lengths=windows.lengths_W - 1,
                loss=lambda group, _: made.network.loss(*windows.padded(group)),
                validate=None
                if queries is None
                else lambda: mean_ndcg(made.scores, queries.histories, queries.targets_U),
                name=cls.name,
            )
        made.network.eval()
        return made

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return every item's mean log-probability of its codes, (histories, items).

        An empty history's row holds the training counts.
        """
        network = self.network
        items_BT, lengths_B = pad([history.items[-self.config.max_length :] for history in histories])
        with torch.inference_mode():
            states_BTD = network.prefix_states(items_BT.to(network.log_scale.device))
            log_prob_BMK = network.code_log_probs(states_BTD[torch.arange(len(histories)), lengths_B])
            by_token = log_prob_BMK.flatten(1).T.contiguous()
            scores_BN: FloatArray = (
                functional.embedding_bag(network.items.token_NM, by_token, mode="mean").T.cpu().numpy()
            )
        scores_BN = np.ascontiguousarray(scores_BN)
        scores_BN[[not len(history.items) for history in histories]] = self.counts_N
        return scores_BN

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return the items whose codes are likeliest after each history."""
        slates: list[Slate] = []
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            slates += slates_from_scores(self.scores([one.history for one in batch]), batch, name=self.name)
        return slates

    def save(self, folder: Path) -> None:
        """Write the weights, the counts and the settings into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
        np.save(folder / "counts.npy", self.counts_N)
        write_json(folder / "config.json", self.config.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "RPG":
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: there is nothing.
        """
        config = read_config(RPGConfig, require(folder / "config.json", remedy="fit and save the baseline first"))
        weights = load_file(folder / "weights.safetensors")
        codes_NM = weights["items.token_NM"].numpy() % config.codebook_size
        network = RPGNetwork(config, codes_NM)
        network.load_state_dict(weights)
        return cls(network, np.load(folder / "counts.npy"), config)
