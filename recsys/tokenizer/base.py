"""The interface of every item tokenizer: encode a stream, reconstruct, price codes, move collisions apart, save.

Axes: N item, B item of one block, X colliding item, F feature, M codebook, K code, D width of a codeword.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config
from recsys.core.errors import ArtifactError
from recsys.core.telemetry import LOG
from recsys.tokenizer.assignment import resolve_collisions
from recsys.tokenizer.stream import blocks, finite, require_shape, slices

_CONFIG, _MODEL = "config.json", "model.safetensors"
_REMEDY = "train the run again to make the tokenizer"
_TINY = 1e-12


class ItemTokenizerConfig(Config):
    """Settings that all kinds of tokenizers share."""

    num_codebooks: int = Field(default=8, ge=1, le=64)
    """Codebooks (experts or levels), and so tokens an item."""
    codebook_size: int = Field(default=256, ge=2, le=65536)
    """Codes in each codebook."""
    sample_size: int = Field(default=200_000, ge=1)
    """Items to fit on; of more, this many are drawn by the seed."""
    resolve_collisions: bool = True
    """Whether items that share all codes are moved apart at the least price when a catalogue is encoded."""


class ItemTokenizer(nn.Module, ABC):
    """Turns item vectors into one code a codebook and back."""

    kind: ClassVar[str]
    config_class: ClassVar[type[ItemTokenizerConfig]]
    mean_F: Tensor
    scale: Tensor

    def __init__(self, config: ItemTokenizerConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        self.num_features = num_features
        self.register_buffer("mean_F", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    @abstractmethod
    def fit(cls, vectors_NF: FloatArray, config: Any, *, seed: int, device: str = "cpu") -> Self:
        """Fit to item vectors; equal seeds give equal weights on one CPU thread.

        Shape:
            vectors_NF: (items, features), finite.

        Raises:
            DataError: a vector is not finite, or there are none.
        """

    @abstractmethod
    def codewords(self) -> Tensor:
        """Return the codewords, shape (codebooks, codes, width)."""

    @abstractmethod
    def nearest(self, vectors_BF: Tensor) -> Tensor:
        """Return the best codes of standardised vectors, shape (batch, codebooks)."""

    @abstractmethod
    def decode(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:
        """Return standardised reconstructions, shape (batch, features)."""

    @abstractmethod
    def prices(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:
        """Return what each code would cost in the place of an item's own, the item's other codes kept.

        Shape:
            returns: (batch, codebooks, codes).
        """

    def directions_FW(self) -> FloatArray | None:
        """Return the directions that the codebooks read, one block a codebook, or None where there are none.

        Shape:
            returns: (features, codebooks * width).
        """
        return None

    def look_up(self, codes_BM: Tensor) -> Tensor:
        """Return the codewords of codes, shape (batch, codebooks, width)."""
        return self.codewords()[torch.arange(self.config.num_codebooks, device=codes_BM.device), codes_BM]

    def learn_scale(self, points_NF: FloatArray) -> Tensor:
        """Set mean and scale from the points, and return the points standardised, shape (items, features)."""
        mean_F = points_NF.mean(axis=0, dtype=np.float64)
        total = sum(float(np.square(block_BF - mean_F).sum()) for block_BF in slices(points_NF))
        spread = float(np.sqrt(total / len(points_NF)))
        self.mean_F.copy_(torch.from_numpy(mean_F))
        self.scale.fill_(spread if spread > _TINY else 1.0)
        return self.standardise(points_NF)

    def standardise(self, block_BF: FloatArray) -> Tensor:
        """Return finite vectors centred and scaled as the fit was, on this tokenizer's device."""
        return torch.from_numpy(block_BF).to(self.mean_F.device).sub(self.mean_F).div_(self.scale)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[FloatArray]) -> IntArray:
        """Return the best codes of the rows of all chunks, collisions left as they are.

        Shape:
            chunks: each (any number of items, features). returns: (all items, codebooks) int64.

        Raises:
            DataError: a vector is not finite.
        """
        parts = [np.empty((0, self.config.num_codebooks), np.int64)]
        for block_BF in blocks(chunks, self.num_features):
            parts.append(self.nearest(self.standardise(block_BF)).cpu().numpy())
        return np.concatenate(parts)

    def encode(
        self, vectors_NF: FloatArray, *, taken_NM: IntArray | None = None, resolve: bool | None = None
    ) -> IntArray:
        """Return every item's codes; items that would share all codes are moved apart if it is configured.

        Args:
            vectors_NF: the items; a memory map is read block by block.
            taken_NM: codes of other items that must not be used again, e.g. of the catalogue when new items come.
            resolve: overrides the config's ``resolve_collisions``; False gives the best codes.

        Shape:
            vectors_NF: (items, features). taken_NM: (other items, codebooks). returns: (items, codebooks) int64.
        """
        require_shape(vectors_NF, self.num_features)
        codes_NM = self.encode_stream(slices(vectors_NF))
        if not (self.config.resolve_collisions if resolve is None else resolve):
            return codes_NM
        return self.move_apart(vectors_NF, codes_NM, taken_NM=taken_NM)

    def move_apart(self, vectors_NF: FloatArray, codes_NM: IntArray, *, taken_NM: IntArray | None = None) -> IntArray:
        """Return the codes with items that share all of them moved to free paths at the least price."""

        def distances_of(rows_X: IntArray) -> FloatArray:
            return self.distances(vectors_NF[rows_X], codes_NM[rows_X])

        resolution = resolve_collisions(distances_of, codes_NM, taken=taken_NM, codebook_size=self.config.codebook_size)
        if resolution.moved or resolution.left:
            LOG.info(
                "tokenizer: %d of %d items moved to a free path at a mean price of %.4f, %d still share one",
                resolution.moved, len(codes_NM), resolution.price, resolution.left,
            )  # fmt: skip
        return resolution.codes_NM

    @torch.no_grad()
    def distances(self, vectors_NF: FloatArray, codes_NM: IntArray | None = None) -> FloatArray:
        """Return what each code of each codebook would cost, see :meth:`prices`; for few items at a time.

        Shape:
            vectors_NF: (items, features). codes_NM: (items, codebooks) the items' own codes, None for their best.
            returns: (items, codebooks, codes).
        """
        require_shape(vectors_NF, self.num_features)
        vectors_BF = self.standardise(finite(vectors_NF))
        codes_BM = self.nearest(vectors_BF) if codes_NM is None else torch.from_numpy(codes_NM).to(vectors_BF.device)
        return self.prices(vectors_BF, codes_BM).cpu().numpy()

    @torch.no_grad()
    def reconstruct(self, vectors_NF: FloatArray, codes_NM: IntArray) -> FloatArray:
        """Return what items' codes decode to, in the units of the vectors, shape (items, features)."""
        require_shape(vectors_NF, self.num_features)
        decoded_NF = np.empty((len(vectors_NF), self.num_features), np.float32)
        start = 0
        for block_BF in blocks(slices(vectors_NF), self.num_features):
            rows = slice(start, start + len(block_BF))
            codes_BM = torch.from_numpy(codes_NM[rows]).to(self.mean_F.device)
            decoded_BF = self.decode(self.standardise(block_BF), codes_BM)
            decoded_NF[rows] = (decoded_BF * self.scale + self.mean_F).cpu().numpy()
            start = rows.stop
        return decoded_NF

    @torch.no_grad()
    def codewords_MKD(self) -> FloatArray:
        """Return the codewords, shape (codebooks, codes, width)."""
        return self.codewords().cpu().numpy().copy()

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder."""
        values = self.config.model_dump(mode="json")
        write_json(folder / _CONFIG, {"kind": self.kind} | values | {"num_features": self.num_features})
        state = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / _MODEL)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a saved tokenizer of this kind."""
        values = read_settings(folder)
        if values.pop("kind") != cls.kind:
            raise ArtifactError(
                f"{folder / _CONFIG} must be of kind {cls.kind}, got {saved_kind(folder)}; use load_tokenizer"
            )
        num_features = values.pop("num_features")
        tokenizer = cls(cls.config_class(**values), num_features)
        tokenizer.load_state_dict(load_file(require(folder / _MODEL, remedy=_REMEDY)))
        return tokenizer.eval()


def read_settings(folder: Path) -> dict[str, Any]:
    """Return a saved tokenizer's settings, with the ones filled in that its time did not know."""
    values: dict[str, Any] = json.loads(require(folder / _CONFIG, remedy=_REMEDY).read_text())
    # before there were kinds there was MPQ alone, whose codes were the nearest ones, unrefined
    return values if "kind" in values else {"kind": "mpq", "refine_sweeps": 0} | values


def saved_kind(folder: Path) -> str:
    """Return the kind of the tokenizer saved in a folder."""
    return str(read_settings(folder)["kind"])


def nearest_codewords(points_BD: Tensor, codewords_KD: Tensor, weight_B1: Tensor | None = None) -> Tensor:
    """Return the code that minimises ``weight * |codeword|^2 - 2 point . codeword``, shape (batch,).

    Weight one (or None) is the nearest codeword. Rows are taken in slabs, so that no large matrix of scores is held.
    """
    return best_scores(points_BD, codewords_KD, codewords_KD.square().sum(-1), weight_B1)


def best_scores(points_BD: Tensor, codewords_KD: Tensor, length_K: Tensor, weight_B1: Tensor | None) -> Tensor:
    """Return the code that minimises ``weight * length - 2 point . codeword``, shape (batch,)."""
    slab = max(1, 2**20 // len(codewords_KD))
    parts = []
    for start in range(0, len(points_BD), slab):
        rows = slice(start, start + slab)
        lengths = length_K if weight_B1 is None else weight_B1[rows] * length_K
        parts.append(torch.addmm(lengths, points_BD[rows], codewords_KD.T, alpha=-2).argmin(-1))
    return torch.cat(parts) if parts else points_BD.new_zeros(0, dtype=torch.long)
