"""Owns the judgement of a tokenizer: use and perplexity of each codebook, collisions, reconstruction, bounds.

Axes: N item, M codebook, F feature, K code.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import TokenizerError


class QualityConfig(Config):
    """Bounds that a tokenizer must keep; shares of codes are of ``min(codebook_size, items)``."""

    min_use: float = Field(default=0.5, ge=0, le=1)
    """Least share of a codebook's codes that some item uses."""
    min_perplexity_share: float = Field(default=0.2, ge=0, le=1)
    """Least perplexity of a codebook as a share of its codes."""
    max_collision_rate: float = Field(default=0.05, ge=0, le=1)
    """Largest share of items that have all codes in common with another item, after resolution."""


@dataclass(frozen=True, kw_only=True)
class CodebookQuality:
    """One codebook: the share of codes in use, the perplexity of their use, and how many are never used."""

    use: float
    perplexity: float
    dead: int


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What a tokenizer did to a catalogue; ``collision_rate_before`` is None where nearest codes were not given."""

    items: int
    codebook_size: int
    collision_rate: float
    collision_rate_before: float | None
    reconstruction_error: float
    codebooks: tuple[CodebookQuality, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the report."""
        return {
            "items": self.items,
            "collision_rate": self.collision_rate,
            "collision_rate_before": self.collision_rate_before,
            "reconstruction_error": self.reconstruction_error,
            "codebooks": [
                {"use": book.use, "perplexity": book.perplexity, "dead": book.dead} for book in self.codebooks
            ],
        }


def measure(
    codes_NM: IntArray,
    vectors_NF: FloatArray,
    reconstructed_NF: FloatArray,
    codebook_size: int,
    *,
    nearest_NM: IntArray | None = None,
) -> Quality:
    """Measure codes against the vectors they stand for.

    The reconstruction error is the squared error as a share of the vectors' variance: 0 is perfect, 1 is the mean.

    Shape:
        codes_NM: (items, codebooks). vectors_NF, reconstructed_NF: (items, features).
        nearest_NM: (items, codebooks) codes before collisions were resolved, if their rate is wanted.
    """
    if len(codes_NM) == 0 or vectors_NF.shape != reconstructed_NF.shape or len(codes_NM) != len(vectors_NF):
        raise ValueError(
            f"codes, vectors and reconstructions must be of the same items, at least one, got {codes_NM.shape}, "
            f"{vectors_NF.shape}, {reconstructed_NF.shape}; pass one row an item in each"
        )
    variance = float(np.square(vectors_NF - vectors_NF.mean(axis=0)).sum(dtype=np.float64))
    error = float(np.square(vectors_NF - reconstructed_NF).sum(dtype=np.float64))
    return Quality(
        items=len(codes_NM),
        codebook_size=codebook_size,
        collision_rate=collision_rate(codes_NM),
        collision_rate_before=None if nearest_NM is None else collision_rate(nearest_NM),
        reconstruction_error=error / variance if variance > 0 else error,
        codebooks=tuple(_codebook(codes_N, codebook_size) for codes_N in codes_NM.T),
    )


def collision_rate(codes_NM: IntArray) -> float:
    """Return the share of items that have all codes in common with another item."""
    _, inverse_N, counts_X = np.unique(codes_NM, axis=0, return_inverse=True, return_counts=True)
    return float((counts_X[inverse_N.reshape(-1)] > 1).mean()) if len(codes_NM) else 0.0


def _codebook(codes_N: IntArray, codebook_size: int) -> CodebookQuality:
    counts_K = np.bincount(codes_N, minlength=codebook_size)
    used_X = counts_K[counts_K > 0] / len(codes_N)
    return CodebookQuality(
        use=len(used_X) / min(codebook_size, len(codes_N)),
        perplexity=float(np.exp(-(used_X * np.log(used_X)).sum())),
        dead=codebook_size - len(used_X),
    )


def check(quality: Quality, config: QualityConfig) -> None:
    """Hold a tokenizer against its bounds.

    Raises:
        TokenizerError: names the figure, the bound and the knob to turn.
    """
    codes = min(quality.codebook_size, quality.items)
    for index, book in enumerate(quality.codebooks):
        if book.use < config.min_use:
            raise TokenizerError(
                f"use of codebook {index} must be at least {config.min_use:g}, got {book.use:.3f} "
                f"({book.dead} dead codes); lower tokenizer.codebook_size or tokenizer.revive_every"
            )
        if book.perplexity < config.min_perplexity_share * codes:
            raise TokenizerError(
                f"perplexity of codebook {index} must be at least {config.min_perplexity_share * codes:.1f} "
                f"({config.min_perplexity_share:g} of {codes} codes), got {book.perplexity:.1f}; "
                f"lower tokenizer.codebook_size or raise tokenizer.epochs"
            )
    if quality.collision_rate > config.max_collision_rate:
        raise TokenizerError(
            f"collision rate must be at most {config.max_collision_rate:g}, got {quality.collision_rate:.3f}; set "
            f"tokenizer.resolve_collisions, raise tokenizer.num_codebooks or codebook_size, or give items more text"
        )
