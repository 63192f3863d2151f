"""What a tokenizer is worth, in figures, and the bounds it must keep.

Axes: N item, M codebook, F feature.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import TokenizerError


class QualityConfig(Config):
    """Bounds whose breach ends a run."""

    min_use: float = 0.5
    """Least share of a codebook's codes in use (of as many as there are items, if fewer)."""
    min_perplexity_share: float = 0.2
    """Least perplexity of a codebook, as a share of its codes (of as many as there are items, if fewer)."""
    max_collision_rate: float = 0.05
    """Largest share of items that share all their codes with another."""


@dataclass(frozen=True, kw_only=True)
class CodebookQuality:
    """One codebook: share of codes in use, perplexity of their distribution, number of unused codes."""

    use: float
    perplexity: float
    dead: int


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A tokenizer's figures over a catalogue; the reconstruction error is relative to the vectors' variance."""

    items: int
    codebook_size: int
    collision_rate: float
    reconstruction_error: float
    codebooks: tuple[CodebookQuality, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures with the keys that programs rely on."""
        return asdict(self)


def measure(codes_NM: IntArray, vectors_NF: FloatArray, rebuilt_NF: FloatArray, codebook_size: int) -> Quality:
    """Measure codes and what is rebuilt from them."""
    _, group_N, size_G = np.unique(codes_NM, axis=0, return_inverse=True, return_counts=True)
    spread = float(np.square(vectors_NF - vectors_NF.mean(0)).sum())
    return Quality(
        items=len(codes_NM),
        codebook_size=codebook_size,
        collision_rate=float((size_G[group_N.reshape(-1)] > 1).mean()),
        reconstruction_error=float(np.square(vectors_NF - rebuilt_NF).sum()) / spread if spread > 0 else 0.0,
        codebooks=tuple(_codebook(codes_NM[:, book], codebook_size) for book in range(codes_NM.shape[1])),
    )


def _codebook(codes_N: IntArray, codebook_size: int) -> CodebookQuality:
    counts_K = np.bincount(codes_N, minlength=codebook_size)
    share = counts_K[counts_K > 0] / counts_K.sum()
    return CodebookQuality(
        use=float((counts_K > 0).mean()),
        perplexity=float(np.exp(-(share * np.log(share)).sum())),
        dead=int((counts_K == 0).sum()),
    )


def check(quality: Quality, config: QualityConfig) -> None:
    """Raise a TokenizerError that names the figure, the bound and the knob, if a bound is broken."""
    reachable = min(quality.codebook_size, quality.items)
    share = reachable / quality.codebook_size
    for number, book in enumerate(quality.codebooks):
        if book.use < config.min_use * share:
            raise TokenizerError(
                f"codebook {number} must use at least {config.min_use:.0%} of its reachable codes, "
                f"got {book.use / share:.0%}; lower tokenizer.codebook_size or raise tokenizer.epochs"
            )
        if book.perplexity < config.min_perplexity_share * reachable:
            raise TokenizerError(
                f"codebook {number} must have a perplexity of at least {config.min_perplexity_share * reachable:.0f}, "
                f"got {book.perplexity:.0f}; lower tokenizer.codebook_size or give items richer vectors"
            )
    if quality.collision_rate > config.max_collision_rate:
        raise TokenizerError(
            f"at most {config.max_collision_rate:.1%} of items may share all codes, got {quality.collision_rate:.1%}; "
            "raise tokenizer.num_codebooks, or set tokenizer.resolve_collisions"
        )
