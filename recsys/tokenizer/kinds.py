"""The kinds of tokenizers: a recipe's section for all, and how each is fitted and loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from recsys.core.arrays import FloatArray
from recsys.core.errors import ArtifactError
from recsys.data.pairs import HeldOutPairs
from recsys.tokenizer.base import ItemTokenizer, ItemTokenizerConfig, saved_kind
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer
from recsys.tokenizer.opq import OPQConfig, OPQSettings, OPQTokenizer
from recsys.tokenizer.residual import ResidualConfig, ResidualTokenizer
from recsys.tokenizer.rqvae import RQVAEConfig, RQVAESettings, RQVAETokenizer

Kind = Literal["mpq", "opq", "residual", "rqvae"]
KINDS: tuple[type[ItemTokenizer], ...] = (MPQTokenizer, OPQTokenizer, ResidualTokenizer, RQVAETokenizer)
"""Every kind of tokenizer."""


class TokenizerConfig(MPQConfig):
    """A recipe's tokenizer: its kind, what all kinds share, MPQ's settings beside them, the rivals' below.

    What the chosen kind does not know has no effect, so a recipe is turned to a rival by its kind alone.
    """

    kind: Kind = "mpq"
    """Which tokenizer is fitted."""
    opq: OPQSettings = OPQSettings()
    """Settings of optimized product quantisation."""
    rqvae: RQVAESettings = RQVAESettings()
    """Settings of the RQ-VAE."""

    def chosen(self) -> ItemTokenizerConfig:
        """Return the settings of the chosen kind alone."""
        shared: dict[str, Any] = {name: getattr(self, name) for name in ItemTokenizerConfig.model_fields}
        if self.kind == "opq":
            return OPQConfig(**shared, **self.opq.model_dump())
        if self.kind == "rqvae":
            return RQVAEConfig(**shared, **self.rqvae.model_dump())
        if self.kind == "residual":
            return ResidualConfig(**shared)
        return MPQConfig(**{name: getattr(self, name) for name in MPQConfig.model_fields})


def fit_tokenizer(
    vectors_NF: FloatArray,
    config: ItemTokenizerConfig,
    *,
    seed: int,
    device: str = "cpu",
    pairs: Sequence[HeldOutPairs] = (),
) -> ItemTokenizer:
    """Fit the tokenizer that a recipe's section, or a kind's own config, describes; MPQ alone reads ``pairs``.

    Shape:
        vectors_NF: (items, features), finite.

    Raises:
        DataError: a vector is not finite, or there are none.
    """
    settings = config.chosen() if isinstance(config, TokenizerConfig) else config
    if isinstance(settings, MPQConfig):
        return MPQTokenizer.fit(vectors_NF, settings, seed=seed, device=device, pairs=pairs)
    for known in KINDS:
        if known.config_class is type(settings):
            return known.fit(vectors_NF, settings, seed=seed, device=device)
    raise TypeError(f"settings must be of a kind of tokenizer, got {type(config).__name__}; see TokenizerConfig")


def load_tokenizer(folder: Path) -> ItemTokenizer:
    """Load a saved tokenizer of any kind.

    Raises:
        ArtifactError: the folder holds no tokenizer, or one of a kind unknown here.
    """
    kind = saved_kind(folder)
    for known in KINDS:
        if known.kind == kind:
            return known.load(folder)
    raise ArtifactError(f"{folder} must hold a tokenizer of {[k.kind for k in KINDS]}, got {kind!r}; train it again")
