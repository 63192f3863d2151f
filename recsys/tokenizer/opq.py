"""A baseline tokenizer, optimized product quantisation: one rotation, then k-means in each of its equal blocks.

Axes: B item of a batch, F feature, M codebook, K code, D width of one block, W = M * D, at least F.
"""

from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.core.seeds import derive_seed, rng_for
from recsys.tokenizer.base import ItemTokenizer, ItemTokenizerConfig, nearest_codewords
from recsys.tokenizer.start import kmeans_codewords, trained_rotation
from recsys.tokenizer.stream import sample


class OPQSettings(Config):
    """Settings of OPQ alone."""

    rotation_steps: int = Field(default=50, ge=0)
    """Rounds of the rotation's training; 0 keeps a rotation that shares the variance out among the blocks."""


class OPQConfig(ItemTokenizerConfig, OPQSettings):
    """Shape and training of OPQ."""


class OPQTokenizer(ItemTokenizer):
    """A rotation and a product quantiser (Ge et al. 2013); features are padded with zeros to a multiple of M.

    The rotation is faiss's ``OPQMatrix``. The quantiser is one faiss k-means a block, which is what its
    ``ProductQuantizer`` runs, because that class allows only powers of two as codebook sizes.
    """

    kind: ClassVar[str] = "opq"
    config_class: ClassVar[type[ItemTokenizerConfig]] = OPQConfig
    config: OPQConfig

    def __init__(self, config: OPQConfig, num_features: int) -> None:
        super().__init__(config, num_features)
        width = -(-num_features // config.num_codebooks)
        padded = config.num_codebooks * width
        self.rotation_WW = nn.Parameter(torch.eye(padded), requires_grad=False)
        empty_MKD = torch.zeros(config.num_codebooks, config.codebook_size, width)
        self.codebooks_MKD = nn.Parameter(empty_MKD, requires_grad=False)

    @classmethod
    @torch.no_grad()
    def fit(cls, vectors_NF: FloatArray, config: OPQConfig, *, seed: int, device: str = "cpu") -> Self:
        """Train the rotation, then the codebooks, see :meth:`ItemTokenizer.fit`."""
        points_NF = sample(vectors_NF, config.sample_size, seed)
        tokenizer = cls(config, points_NF.shape[1])
        padded_NW = tokenizer._padded(tokenizer.learn_scale(points_NF))
        rotation_WW = trained_rotation(
            padded_NW.numpy(),
            (config.num_codebooks, tokenizer.codebooks_MKD.shape[2]),
            codes=config.codebook_size,
            steps=config.rotation_steps,
            rng=rng_for(seed, "opq", "rotation"),
        )
        tokenizer.rotation_WW.copy_(torch.from_numpy(rotation_WW))
        blocks_NMD = (padded_NW @ tokenizer.rotation_WW).unflatten(-1, (config.num_codebooks, -1)).numpy()
        for book in range(config.num_codebooks):
            points_ND = np.ascontiguousarray(blocks_NMD[:, book])
            start_KD = kmeans_codewords(points_ND, config.codebook_size, derive_seed(seed, "opq", "kmeans", book))
            tokenizer.codebooks_MKD[book].copy_(torch.from_numpy(start_KD))
        return tokenizer.to(device).eval()

    def _padded(self, vectors_BF: Tensor) -> Tensor:
        return nn.functional.pad(vectors_BF, (0, len(self.rotation_WW) - self.num_features))

    def _blocks(self, vectors_BF: Tensor) -> Tensor:
        rotated_BW = vectors_BF @ self.rotation_WW[: self.num_features]
        return rotated_BW.unflatten(-1, (self.config.num_codebooks, -1))

    def codewords(self) -> Tensor:
        """Return the codewords, each codebook in its own block of the rotation, shape (codebooks, codes, width)."""
        return self.codebooks_MKD

    def nearest(self, vectors_BF: Tensor) -> Tensor:
        """Return the nearest codes of each block, shape (batch, codebooks)."""
        blocks_BMD = self._blocks(vectors_BF)
        books = range(self.config.num_codebooks)
        return torch.stack([nearest_codewords(blocks_BMD[:, m], self.codebooks_MKD[m]) for m in books], dim=1)

    def decode(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:  # noqa: ARG002 (these codes decode alone)
        """Return the codewords side by side, rotated back, shape (batch, features)."""
        return self.look_up(codes_BM).flatten(1) @ self.rotation_WW[: self.num_features].T

    def prices(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:
        """Return the squared error of the rotated item with each code in the place of its own.

        Shape:
            returns: (batch, codebooks, codes).
        """
        blocks_BMD = self._blocks(vectors_BF)
        prices_BMK = vectors_BF.new_empty(*codes_BM.shape, self.config.codebook_size)
        for book, codewords_KD in enumerate(self.codebooks_MKD):
            prices_BMK[:, book] = blocks_BMD[:, book].square().sum(-1, keepdim=True) + codewords_KD.square().sum(-1)
            prices_BMK[:, book] -= 2 * blocks_BMD[:, book] @ codewords_KD.T
        own_BM = prices_BMK.gather(2, codes_BM.unsqueeze(-1)).squeeze(-1)
        others_BM = own_BM.sum(-1, keepdim=True) - own_BM
        return prices_BMK.add_(others_BM.unsqueeze(-1)).clamp_min_(0)
