"""MPQ, the item tokenizer of the method: its network and its fit under one name.

Axes: N item, F feature.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

from recsys.core.arrays import FloatArray
from recsys.data.pairs import HeldOutPairs
from recsys.tokenizer.base import ItemTokenizerConfig
from recsys.tokenizer.mpq_fit import fit_mpq
from recsys.tokenizer.mpq_network import MPQConfig, MPQNetwork

__all__ = ["MPQConfig", "MPQTokenizer"]


class MPQTokenizer(MPQNetwork):
    """A mixture of experts with parallel codebooks (arXiv 2508.15308, section on MPQ)."""

    kind: ClassVar[str] = "mpq"
    config_class: ClassVar[type[ItemTokenizerConfig]] = MPQConfig

    @classmethod
    def fit(
        cls,
        vectors_NF: FloatArray,
        config: MPQConfig,
        *,
        seed: int,
        device: str = "cpu",
        pairs: Sequence[HeldOutPairs] = (),
    ) -> Self:
        """Fit experts, codebooks, gate and decoder, see :func:`recsys.tokenizer.mpq_fit.fit_mpq`."""
        return fit_mpq(cls, vectors_NF, config, seed=seed, device=device, pairs=pairs)
