"""A baseline tokenizer, residual k-means: every codebook quantises what the ones before left over.

Axes: B item of a batch, F feature, M level, K code.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from recsys.core.arrays import FloatArray
from recsys.core.seeds import derive_seed
from recsys.tokenizer.additive import exchange_prices, greedy_codes, summed
from recsys.tokenizer.base import ItemTokenizer, ItemTokenizerConfig
from recsys.tokenizer.start import kmeans_codewords
from recsys.tokenizer.stream import sample


class ResidualConfig(ItemTokenizerConfig):
    """Residual k-means has no settings of its own."""


class ResidualTokenizer(ItemTokenizer):
    """Codewords of all levels live in the item's own space and are added up (Chen et al. 2010, residual VQ)."""

    kind: ClassVar[str] = "residual"
    config_class: ClassVar[type[ItemTokenizerConfig]] = ResidualConfig

    def __init__(self, config: ItemTokenizerConfig, num_features: int) -> None:
        super().__init__(config, num_features)
        empty_MKF = torch.zeros(config.num_codebooks, config.codebook_size, num_features)
        self.codebooks_MKF = nn.Parameter(empty_MKF, requires_grad=False)

    @classmethod
    @torch.no_grad()
    def fit(cls, vectors_NF: FloatArray, config: ItemTokenizerConfig, *, seed: int, device: str = "cpu") -> Self:
        """Run k-means on the residuals of one level after another, see :meth:`ItemTokenizer.fit`."""
        points_NF = sample(vectors_NF, config.sample_size, seed)
        tokenizer = cls(config, points_NF.shape[1])
        rest_NF = tokenizer.learn_scale(points_NF)
        for level in range(config.num_codebooks):
            kmeans_seed = derive_seed(seed, "residual", "kmeans", level)
            codewords_KF = torch.from_numpy(kmeans_codewords(rest_NF.numpy(), config.codebook_size, kmeans_seed))
            tokenizer.codebooks_MKF[level].copy_(codewords_KF)
            rest_NF = rest_NF - summed(greedy_codes(rest_NF, codewords_KF[None]), codewords_KF[None])
        return tokenizer.to(device).eval()

    def codewords(self) -> Tensor:
        """Return the codewords, all in the item's standardised space, shape (levels, codes, features)."""
        return self.codebooks_MKF

    def nearest(self, vectors_BF: Tensor) -> Tensor:
        """Return the codes level by level, shape (batch, levels)."""
        return greedy_codes(vectors_BF, self.codebooks_MKF)

    def decode(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:  # noqa: ARG002 (these codes decode alone)
        """Return the sum of the codewords, shape (batch, features)."""
        return summed(codes_BM, self.codebooks_MKF)

    def prices(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:
        """Return the squared error of the reconstruction with each code in the place of an item's own.

        Shape:
            returns: (batch, levels, codes).
        """
        return exchange_prices(vectors_BF, codes_BM, self.codebooks_MKF)
