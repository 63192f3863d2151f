"""The MPQ tokenizer (REG4Rec, section on MPQ): one expert and one codebook per token, a gate, one shared decoder.

Axes: N item, B batch, F feature, M codebook (expert), K code, D latent width of an expert.
"""

import json
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config
from recsys.core.errors import DataError
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import track
from recsys.tokenizer.assignment import resolve_collisions

ENCODE_ROWS = 4096
"""Items encoded at once."""


class MPQConfig(Config):
    """Experts, codebooks and how they are fitted."""

    num_codebooks: int = 8
    """Experts, and so tokens per item (M)."""
    codebook_size: int = 256
    """Codes per codebook (D in the paper); 256 keeps a code in one byte."""
    width: int = 32
    """Latent width of one expert."""
    orthogonality: float = 0.001
    """Weight of the push that keeps experts' columns orthogonal (alpha)."""
    codebook_weight: float = 4.0
    """Weight of the loss that moves codewords to the experts' outputs."""
    commitment: float = 0.25
    """Weight of the loss that keeps experts' outputs near their codewords."""
    epochs: int = 60
    """Passes over the items."""
    batch_size: int = 1024
    """Items a batch."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    revive_every: int = 10
    """Epochs between revivals of unused codes from badly reconstructed items."""
    metric: Literal["l2", "cosine"] = "l2"
    """Distance by which an expert's output finds its code."""
    resolve_collisions: bool = True
    """Whether items with equal codes are told apart by the cheapest next-best code."""


class MPQTokenizer(nn.Module):
    """Linear experts, a dense softmax gate, one codebook per expert and a shared linear decoder.

    The codeword of expert r lives in block r of the shared latent space, so the gated sum of codewords is their gated
    concatenation. The gate is scaled by M: an even gate weighs every block by one.
    """

    def __init__(self, config: MPQConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        latent = config.num_codebooks * config.width
        self.experts = nn.Linear(num_features, latent, bias=False)
        self.gate = nn.Linear(num_features, config.num_codebooks)
        self.codebooks = nn.Parameter(torch.zeros(config.num_codebooks, config.codebook_size, config.width))
        self.decoder = nn.Linear(latent, num_features)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def project(self, vectors_BF: Tensor) -> Tensor:
        """Return every expert's output, shape (batch, codebooks, width)."""
        return self.experts(vectors_BF).view(len(vectors_BF), self.config.num_codebooks, self.config.width)  # type: ignore[no-any-return]

    def distances(self, latent_BMD: Tensor) -> Tensor:
        """Return distances to all codewords, shape (batch, codebooks, codes)."""
        words_MKD = self.codebooks
        if self.config.metric == "cosine":
            latent_BMD, words_MKD = functional.normalize(latent_BMD, dim=-1), functional.normalize(words_MKD, dim=-1)
        products_BMK = torch.einsum("bmd,mkd->bmk", latent_BMD, words_MKD)
        return latent_BMD.square().sum(-1, keepdim=True) - 2 * products_BMK + words_MKD.square().sum(-1)

    def lookup(self, codes_BM: Tensor) -> Tensor:
        """Return the codewords of codes, shape (batch, codebooks, width)."""
        return self.codebooks[torch.arange(self.config.num_codebooks, device=codes_BM.device), codes_BM]

    def decode(self, vectors_BF: Tensor, words_BMD: Tensor) -> Tensor:
        """Reconstruct vectors from gated codewords, shape (batch, features)."""
        gate_BM = self.config.num_codebooks * self.gate(vectors_BF).softmax(-1)
        return self.decoder((gate_BM[..., None] * words_BMD).flatten(1))  # type: ignore[no-any-return]

    def losses(self, vectors_BF: Tensor) -> dict[str, Tensor]:
        """Return reconstruction, orthogonality, codebook and commitment losses, unweighted means."""
        latent_BMD = self.project(vectors_BF)
        words_BMD = self.lookup(self.distances(latent_BMD).argmin(-1))
        through_BMD = latent_BMD + (words_BMD - latent_BMD).detach()
        return {
            "reconstruction": (vectors_BF - self.decode(vectors_BF, through_BMD)).square().sum(-1).mean(),
            "orthogonality": orthogonality(self.experts.weight.T),
            "codebook": (latent_BMD.detach() - words_BMD).square().sum((1, 2)).mean(),
            "commitment": (latent_BMD - words_BMD.detach()).square().sum((1, 2)).mean(),
        }

    @torch.inference_mode()
    def encode(self, vectors_NF: FloatArray, *, taken_NM: IntArray | None = None) -> IntArray:
        """Return every item's codes, shape (items, codebooks); codes in ``taken_NM`` belong to other items already."""
        require_finite(vectors_NF)
        device = self.codebooks.device
        chunks = [torch.from_numpy(vectors_NF[i : i + ENCODE_ROWS]) for i in range(0, len(vectors_NF), ENCODE_ROWS)]
        nearest = [self.distances(self.project(chunk.to(device))).argmin(-1).cpu().numpy() for chunk in chunks]
        codes_NM = np.concatenate(nearest).astype(np.int64)
        if not self.config.resolve_collisions:
            return codes_NM

        def distances_of(rows: IntArray) -> FloatArray:
            latent = self.project(torch.from_numpy(vectors_NF[rows]).to(device))
            return np.asarray(self.distances(latent).cpu().numpy(), np.float32)

        with torch.inference_mode():
            return resolve_collisions(codes_NM, distances_of, taken_NM=taken_NM)

    @torch.inference_mode()
    def reconstruct(self, vectors_NF: FloatArray, codes_NM: IntArray) -> FloatArray:
        """Return what the decoder makes of the codes (the gate reads the vectors), shape (items, features)."""
        device = self.codebooks.device
        words = self.lookup(torch.from_numpy(codes_NM).to(device))
        return np.asarray(self.decode(torch.from_numpy(vectors_NF).to(device), words).cpu().numpy(), np.float32)

    def codewords_MKD(self) -> FloatArray:
        """Return the codewords, shape (codebooks, codes, width)."""
        return np.asarray(self.codebooks.detach().cpu().numpy(), np.float32)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        write_json(folder / "config.json", {"num_features": self.experts.in_features, "mpq": self.config.model_dump()})
        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "MPQTokenizer":
        """Load a saved tokenizer."""
        values = json.loads(require(folder / "config.json", remedy="train the run again").read_text())
        tokenizer = cls(MPQConfig(**values["mpq"]), values["num_features"])
        tokenizer.load_state_dict(load_file(folder / WEIGHTS))
        return tokenizer.eval()


WEIGHTS = "model.safetensors"


def orthogonality(weights_FL: Tensor) -> Tensor:
    """Return ||W^T W - I||_F^2 of the column-normalised matrix of all experts: zero iff all columns are orthogonal."""
    unit = functional.normalize(weights_FL, dim=0)
    gram = unit.T @ unit
    return (gram - torch.eye(len(gram), device=gram.device)).square().sum()


def require_finite(vectors_NF: FloatArray) -> None:
    """Raise unless there is at least one vector and all are finite."""
    if vectors_NF.ndim != 2 or len(vectors_NF) == 0:
        raise DataError(f"item vectors must be a matrix with at least one row, got shape {vectors_NF.shape}")
    bad = np.flatnonzero(~np.isfinite(vectors_NF).all(axis=1))
    if len(bad):
        raise DataError(
            f"item vectors must be finite, got NaN or infinity in {len(bad)} items, first row {bad[0]}; "
            "repair those vectors or leave them out"
        )


def fit_tokenizer(vectors_NF: FloatArray, config: MPQConfig, *, seed: int, device: str = "cpu") -> MPQTokenizer:
    """Fit experts and codebooks: k-means start per expert, then Adam on the four losses, dead codes revived."""
    require_finite(vectors_NF)
    torch.manual_seed(derive_seed(seed, "mpq"))
    tokenizer = MPQTokenizer(config, vectors_NF.shape[1]).to(device)
    _start(tokenizer, vectors_NF, seed)
    vectors = torch.from_numpy(vectors_NF).to(device)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=config.learning_rate)
    weights = {
        "reconstruction": 1.0,
        "orthogonality": config.orthogonality,
        "codebook": config.codebook_weight,
        "commitment": config.commitment,
    }
    for epoch in track(range(config.epochs), what="tokenizer", total=config.epochs):
        rng = rng_for(seed, "mpq", epoch)
        order = torch.from_numpy(rng.permutation(len(vectors))).to(device)
        for rows in order.split(config.batch_size):
            losses = tokenizer.losses(vectors[rows])
            optimizer.zero_grad(set_to_none=True)
            torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if config.revive_every and epoch % config.revive_every == 0 and epoch + config.revive_every < config.epochs:
            _revive(tokenizer, vectors, rng)
    return tokenizer.eval()


@torch.no_grad()
def _start(tokenizer: MPQTokenizer, vectors_NF: FloatArray, seed: int) -> None:
    """Start from random orthogonal experts, the decoder that inverts them, and k-means codewords per expert."""
    config, features = tokenizer.config, vectors_NF.shape[1]
    latent = config.num_codebooks * config.width
    rng = rng_for(seed, "mpq", "rotation")
    turns = [np.linalg.qr(rng.normal(size=(features, features)))[0] for _ in range(-(-latent // features))]
    rotation_FL = np.concatenate(turns, axis=1)[:, :latent].astype(np.float32)
    device = tokenizer.codebooks.device
    tokenizer.experts.weight.copy_(torch.from_numpy(rotation_FL.T))
    tokenizer.decoder.weight.copy_(torch.from_numpy(rotation_FL * min(1.0, features / latent)))
    tokenizer.decoder.bias.zero_()
    latent_NMD = tokenizer.project(torch.from_numpy(vectors_NF).to(device)).cpu().numpy()
    for book in range(config.num_codebooks):
        points = np.ascontiguousarray(latent_NMD[:, book])
        words = _kmeans(points, config.codebook_size, derive_seed(seed, "kmeans", book))
        tokenizer.codebooks[book].copy_(torch.from_numpy(words))


def _kmeans(points_ND: FloatArray, count: int, seed: int) -> FloatArray:
    """Return ``count`` centres; where there are fewer points than centres, points repeat with a little noise."""
    if len(points_ND) <= count:
        rng = np.random.default_rng(seed)
        repeated = points_ND[np.arange(count) % len(points_ND)]
        noise = rng.normal(scale=1e-3 * (points_ND.std() + 1e-6), size=repeated.shape)
        noise[: len(points_ND)] = 0
        return np.asarray(repeated + noise, np.float32)
    kmeans = faiss.Kmeans(points_ND.shape[1], count, niter=15, seed=seed & 0x7FFFFFFF, min_points_per_centroid=1)
    kmeans.train(points_ND)
    return np.asarray(kmeans.centroids, np.float32)


@torch.no_grad()
def _revive(tokenizer: MPQTokenizer, vectors_NF: Tensor, rng: np.random.Generator) -> None:
    """Move codes that no item uses to the experts' outputs of badly reconstructed items."""
    latent_NMD = tokenizer.project(vectors_NF)
    codes_NM = tokenizer.distances(latent_NMD).argmin(-1)
    error_NM = (latent_NMD - tokenizer.lookup(codes_NM)).square().sum(-1)
    for book in range(tokenizer.config.num_codebooks):
        used_K = torch.bincount(codes_NM[:, book], minlength=tokenizer.config.codebook_size) > 0
        dead = torch.nonzero(~used_K).flatten()[: len(vectors_NF)]
        if len(dead):
            weight = error_NM[:, book].double().cpu().numpy() + 1e-12
            rows = rng.choice(len(weight), size=len(dead), replace=False, p=weight / weight.sum())
            tokenizer.codebooks[book, dead] = latent_NMD[torch.from_numpy(rows), book]
