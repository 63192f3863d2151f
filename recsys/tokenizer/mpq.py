"""Owns MPQ, the item tokenizer of parallel experts with a codebook each: module, fit, encode, save.

Axes: N item, B batch, F feature, M codebook, K code, D latent width of one expert, C = M * D.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config
from recsys.core.errors import DataError
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG, track
from recsys.tokenizer.assignment import resolve_collisions
from recsys.tokenizer.objectives import (
    orthogonality_loss,
    quantisation_losses,
    reconstruction_loss,
    straight_through,
)
from recsys.tokenizer.start import balanced_rotation, kmeans_codewords

_CHUNK = 4096


class MPQConfig(Config):
    """Shape and training of the tokenizer."""

    num_codebooks: int = Field(default=8, ge=1)
    """Experts, codebooks, and so tokens an item."""
    codebook_size: int = Field(default=256, ge=2)
    """Codes in each codebook."""
    width: int = Field(default=32, ge=1)
    """Latent width of one expert; num_codebooks * width above the features' width cannot be orthogonal."""
    orthogonality: float = Field(default=0.001, ge=0)
    """Weight of the experts' orthogonality (the paper's alpha)."""
    codebook_weight: float = Field(default=4.0, ge=0)
    """Weight of moving codewords to the latents."""
    commitment: float = Field(default=0.25, ge=0)
    """Weight of moving latents to their codewords."""
    epochs: int = Field(default=60, ge=0)
    """Passes over the items."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's first learning rate; it falls to zero along a cosine."""
    batch_size: int = Field(default=1024, ge=1)
    """Items a step."""
    revive_every: int = Field(default=5, ge=1)
    """Epochs between two revivals of codes that no item uses."""
    metric: Literal["l2", "cosine"] = "l2"
    """How the nearest codeword is found; cosine puts latents and codewords on the unit sphere."""
    resolve_collisions: bool = True
    """Whether items that share all codes are moved apart at the least price when a catalogue is encoded."""


class MPQTokenizer(nn.Module):
    """Linear experts, a codebook each, a dense gate on the quantised vectors and one shared linear decoder."""

    def __init__(self, config: MPQConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        latent = config.num_codebooks * config.width
        self.experts_FC = nn.Parameter(torch.zeros(num_features, latent))
        self.codebooks_MKD = nn.Parameter(torch.zeros(config.num_codebooks, config.codebook_size, config.width))
        self.gate = nn.Linear(num_features, config.num_codebooks)
        self.decoder = nn.Linear(latent, num_features)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.decoder.bias)
        self.mean_F: Tensor
        self.scale: Tensor
        self.register_buffer("mean_F", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(()))

    @property
    def num_features(self) -> int:
        """Width of the vectors this tokenizer takes."""
        return self.experts_FC.shape[0]

    def latents(self, vectors_BF: Tensor) -> Tensor:
        """Return what each expert makes of standardised vectors, shape (batch, codebooks, width)."""
        latents_BMD = (vectors_BF @ self.experts_FC).unflatten(-1, (self.config.num_codebooks, self.config.width))
        return nn.functional.normalize(latents_BMD, dim=-1) if self.config.metric == "cosine" else latents_BMD

    def codewords(self) -> Tensor:
        """Return the codewords that the lookup compares with, shape (codebooks, codes, width)."""
        if self.config.metric == "cosine":
            return nn.functional.normalize(self.codebooks_MKD, dim=-1)
        return self.codebooks_MKD

    def squared_distances(self, latents_BMD: Tensor) -> Tensor:
        """Return the squared distance of latents to all codewords, shape (batch, codebooks, codes)."""
        codewords_MKD = self.codewords()
        dots_BMK = torch.bmm(latents_BMD.transpose(0, 1), codewords_MKD.transpose(1, 2)).transpose(0, 1)
        lengths_MK = codewords_MKD.square().sum(-1)
        return (latents_BMD.square().sum(-1, keepdim=True) - 2 * dots_BMK + lengths_MK).clamp_min(0)

    def look_up(self, codes_BM: Tensor) -> Tensor:
        """Return the codewords of codes, shape (batch, codebooks, width)."""
        return self.codewords()[torch.arange(self.config.num_codebooks, device=codes_BM.device), codes_BM]

    def decode(self, vectors_BF: Tensor, quantised_BMD: Tensor) -> Tensor:
        """Return reconstructions of standardised vectors: gated codewords side by side, decoded, (batch, features)."""
        gate_BM = self.config.num_codebooks * self.gate(vectors_BF).softmax(-1)
        return self.decoder((gate_BM.unsqueeze(-1) * quantised_BMD).flatten(1))

    def losses(self, vectors_BF: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of a batch of standardised vectors by name, "total" their weighted sum, and its codes."""
        latents_BMD = self.latents(vectors_BF)
        with torch.no_grad():
            codes_BM = self.squared_distances(latents_BMD).argmin(-1)
        codewords_BMD = self.look_up(codes_BM)
        decoded_BF = self.decode(vectors_BF, straight_through(latents_BMD, codewords_BMD))
        codebook, commitment = quantisation_losses(latents_BMD, codewords_BMD)
        parts = {
            "reconstruction": reconstruction_loss(vectors_BF, decoded_BF),
            "orthogonality": orthogonality_loss(self.experts_FC),
            "codebook": codebook,
            "commitment": commitment,
        }
        config = self.config
        weights = {
            "reconstruction": 1.0,
            "orthogonality": config.orthogonality,
            "codebook": config.codebook_weight,
            "commitment": config.commitment,
        }
        total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return parts | {"total": total}, codes_BM

    def standardise(self, vectors_NF: FloatArray) -> Tensor:
        """Return vectors centred and scaled as the fit was, on this tokenizer's device, shape (items, features)."""
        _require_vectors(vectors_NF, self.num_features)
        vectors = torch.from_numpy(np.array(vectors_NF, dtype=np.float32)).to(self.mean_F.device)
        return (vectors - self.mean_F) / self.scale

    @torch.no_grad()
    def distances(self, vectors_NF: FloatArray) -> FloatArray:
        """Return squared distances to every codeword, shape (items, codebooks, codes)."""
        return self.squared_distances(self.latents(self.standardise(vectors_NF))).cpu().numpy()

    @torch.no_grad()
    def encode(
        self, vectors_NF: FloatArray, *, taken_NM: IntArray | None = None, resolve: bool | None = None
    ) -> IntArray:
        """Return every item's codes; items that would share all codes are moved apart if the config says so.

        Args:
            vectors_NF: the items.
            taken_NM: codes of other items that must not be used again, e.g. of the catalogue when new items come.
            resolve: overrides the config's ``resolve_collisions``; False gives the nearest codes.

        Shape:
            vectors_NF: (items, features). taken_NM: (other items, codebooks). returns: (items, codebooks) int64.
        """
        _require_vectors(vectors_NF, self.num_features)
        codes_NM = np.empty((len(vectors_NF), self.config.num_codebooks), np.int64)
        for start in range(0, len(vectors_NF), _CHUNK):
            rows = slice(start, start + _CHUNK)
            codes_NM[rows] = self.distances(vectors_NF[rows]).argmin(-1)
        if not (self.config.resolve_collisions if resolve is None else resolve):
            return codes_NM
        resolution = resolve_collisions(lambda rows_R: self.distances(vectors_NF[rows_R]), codes_NM, taken=taken_NM)
        if resolution.moved or resolution.left:
            LOG.info(
                "tokenizer: %d of %d items moved to a free path at a mean price of %.4f, %d still share one",
                resolution.moved, len(codes_NM), resolution.price, resolution.left,
            )  # fmt: skip
        return resolution.codes_NM

    @torch.no_grad()
    def reconstruct(self, vectors_NF: FloatArray, codes_NM: IntArray) -> FloatArray:
        """Return what the decoder makes of items' codes, in the units of the vectors, shape (items, features)."""
        decoded_NF = np.empty((len(vectors_NF), self.num_features), np.float32)
        for start in range(0, len(vectors_NF), _CHUNK):
            rows = slice(start, start + _CHUNK)
            vectors_BF = self.standardise(vectors_NF[rows])
            codes_BM = torch.from_numpy(codes_NM[rows]).to(vectors_BF.device)
            decoded_BF = self.decode(vectors_BF, self.look_up(codes_BM))
            decoded_NF[rows] = (decoded_BF * self.scale + self.mean_F).cpu().numpy()
        return decoded_NF

    @torch.no_grad()
    def codewords_MKD(self) -> FloatArray:
        """Return the codewords, shape (codebooks, codes, width); codebooks have separate spaces."""
        return self.codewords().cpu().numpy().copy()

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder."""
        write_json(folder / "config.json", self.config.model_dump(mode="json") | {"num_features": self.num_features})
        state: Mapping[str, Tensor] = self.state_dict()
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "MPQTokenizer":
        """Load a saved tokenizer."""
        import json

        remedy = "train the run again to make the tokenizer"
        values = json.loads(require(folder / "config.json", remedy=remedy).read_text())
        num_features = values.pop("num_features")
        tokenizer = cls(MPQConfig(**values), num_features)
        tokenizer.load_state_dict(load_file(require(folder / "model.safetensors", remedy=remedy)))
        return tokenizer.eval()


def fit_tokenizer(vectors_NF: FloatArray, config: MPQConfig, *, seed: int, device: str = "cpu") -> MPQTokenizer:
    """Fit experts, codebooks, gate and decoder; equal seeds give equal weights on one CPU thread.

    Shape:
        vectors_NF: (items, features), finite.

    Raises:
        DataError: a vector is not finite, or there are none.
    """
    _require_vectors(vectors_NF, None)
    tokenizer = _start(vectors_NF, config, seed).to(device)
    vectors = tokenizer.standardise(vectors_NF)
    batches = max(1, -(-len(vectors) // config.batch_size))
    optimiser = torch.optim.Adam(tokenizer.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=max(1, config.epochs * batches))
    rng = torch.Generator().manual_seed(derive_seed(seed, "mpq", "fit"))
    losses: dict[str, Tensor] = {}
    for epoch in track(range(config.epochs), what="tokenizer epochs", total=config.epochs):
        for index_B in torch.randperm(len(vectors), generator=rng).to(device).split(config.batch_size):
            losses, _ = tokenizer.losses(vectors[index_B])
            optimiser.zero_grad(set_to_none=True)
            losses["total"].backward()
            optimiser.step()
            schedule.step()
        if (epoch + 1) % config.revive_every == 0 and epoch + 1 < config.epochs:
            _revive(tokenizer, vectors, rng)
    LOG.info("tokenizer: last losses %s", {name: round(loss.item(), 4) for name, loss in losses.items()})
    return tokenizer.eval()


def _start(vectors_NF: FloatArray, config: MPQConfig, seed: int) -> MPQTokenizer:
    tokenizer = MPQTokenizer(config, vectors_NF.shape[1])
    mean_F = vectors_NF.mean(axis=0, dtype=np.float64)
    spread = float(np.sqrt(np.square(vectors_NF - mean_F).sum(axis=1).mean()))
    tokenizer.mean_F.copy_(torch.from_numpy(mean_F))
    tokenizer.scale.fill_(spread if spread > 1e-12 else 1.0)
    points = tokenizer.standardise(vectors_NF)
    rng = rng_for(seed, "mpq", "rotation")
    experts_FC = balanced_rotation(points.numpy(), config.num_codebooks, config.width, rng)
    with torch.no_grad():
        tokenizer.experts_FC.copy_(torch.from_numpy(experts_FC))
        tokenizer.decoder.weight.copy_(torch.from_numpy(np.linalg.pinv(experts_FC).T))
        latents_NMD = tokenizer.latents(points).numpy()
        for book in range(config.num_codebooks):
            kmeans_seed = derive_seed(seed, "mpq", "kmeans", book)
            start_KD = kmeans_codewords(latents_NMD[:, book], config.codebook_size, kmeans_seed)
            tokenizer.codebooks_MKD[book].copy_(torch.from_numpy(start_KD))
    return tokenizer


@torch.no_grad()
def _revive(tokenizer: MPQTokenizer, vectors: Tensor, rng: torch.Generator) -> None:
    """Put codewords that no item uses onto items drawn in proportion to their squared error in that codebook."""
    chunks = [tokenizer.latents(chunk) for chunk in vectors.split(_CHUNK)]
    nearest = [tokenizer.squared_distances(chunk).min(-1) for chunk in chunks]
    latents_NMD = torch.cat(chunks)
    errors_NM, codes_NM = torch.cat([n.values for n in nearest]).cpu(), torch.cat([n.indices for n in nearest]).cpu()
    for book in range(tokenizer.config.num_codebooks):
        counts_K = torch.bincount(codes_NM[:, book], minlength=tokenizer.config.codebook_size)
        dead_X = torch.nonzero(counts_K == 0).flatten()
        count = min(len(dead_X), int((errors_NM[:, book] > 1e-12).sum()))
        if count:
            items_X = torch.multinomial(errors_NM[:, book], count, generator=rng)
            tokenizer.codebooks_MKD[book, dead_X[:count]] = latents_NMD[items_X, book]


def _require_vectors(vectors_NF: FloatArray, num_features: int | None) -> None:
    if vectors_NF.ndim != 2 or (num_features is not None and vectors_NF.shape[1] != num_features):
        raise ValueError(
            f"vectors must have shape (items, {num_features or 'features'}), got {vectors_NF.shape}; "
            f"pass the vectors this tokenizer was made for"
        )
    if num_features is None and 0 in vectors_NF.shape:
        raise DataError(f"items to fit a tokenizer on must be at least one, got shape {vectors_NF.shape}; import items")
    if not np.isfinite(vectors_NF).all():
        row = int(np.flatnonzero(~np.isfinite(vectors_NF).all(axis=1))[0])
        raise DataError(f"item vectors must be finite, got NaN or infinity in row {row}; repair that item's features")
