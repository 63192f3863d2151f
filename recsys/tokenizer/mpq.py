"""Owns MPQ, the item tokenizer of the method: its network and its fit under one name.

Axes: N item, F feature.
"""

from typing import ClassVar, Self

from recsys.core.arrays import FloatArray
from recsys.tokenizer.base import ItemTokenizerConfig
from recsys.tokenizer.mpq_fit import fit_mpq
from recsys.tokenizer.mpq_network import MPQConfig, MPQNetwork

__all__ = ["MPQConfig", "MPQTokenizer"]


class MPQTokenizer(MPQNetwork):
    """A mixture of experts with parallel codebooks (arXiv 2508.15308, section on MPQ)."""

    kind: ClassVar[str] = "mpq"
    config_class: ClassVar[type[ItemTokenizerConfig]] = MPQConfig

    @classmethod
    def fit(cls, vectors_NF: FloatArray, config: MPQConfig, *, seed: int, device: str = "cpu") -> Self:
        """Fit experts, codebooks, gate and decoder, see :meth:`ItemTokenizer.fit`."""
        return fit_mpq(cls, vectors_NF, config, seed=seed, device=device)
