"""The quality of a tokenizer: use of its codes, collisions, reconstruction, independence, and bounds on them.

Axes: N item, M codebook, F feature, K code, W = M * latent width of one expert, X value in use.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from recsys.core.arrays import Float64Array, FloatArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import TokenizerError
from recsys.core.seeds import rng_for

_SHUFFLES = 8
_TINY = 1e-12


class QualityConfig(Config):
    """Bounds that a tokenizer must keep; shares of codes are of ``min(codebook_size, items)``."""

    min_use: float = Field(default=0.5, ge=0, le=1)
    """Least share of a codebook's codes that some item uses."""
    min_perplexity_share: float = Field(default=0.2, ge=0, le=1)
    """Least perplexity of a codebook as a share of its codes."""
    max_collision_rate: float = Field(default=0.005, ge=0, le=1)
    """Largest share of items that have all codes in common with another item, after resolution."""
    max_reconstruction_error: float = Field(default=0.95, gt=0)
    """Largest squared error of the reconstruction as a share of the vectors' variance; 1 is no better than the mean."""
    max_mean_information: float = Field(default=0.6, ge=0, le=1)
    """Largest mean of the adjusted mutual information of two codebooks: 0 is independent, 1 is equal up to names."""
    max_pair_information: float = Field(default=0.9, ge=0, le=1)
    """Largest value of the same for any one pair of codebooks."""
    max_expert_overlap: float = Field(default=0.5, ge=0, le=1)
    """Largest mean absolute cosine between directions of different experts."""
    min_category_agreement: float = Field(default=0.0, ge=0, le=1)
    """Least mean, over codebooks, of the adjusted mutual information of codes and categories; 0 sets no bound."""


@dataclass(frozen=True, kw_only=True)
class ReferenceData:
    """What is also measured where it is given: experts, categories, codes before resolution; and the seed of shuffles.

    Shape:
        experts_FW: (features, codebooks * width) the experts' directions side by side, one block an expert.
        category_N: (items,) category numbers.
        nearest_NF: (items, features) reconstructions from the codes before collisions were resolved.
    """

    experts_FW: FloatArray | None = None
    category_N: IntArray | None = None
    nearest_NF: FloatArray | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CodebookQuality:
    """One codebook: the share of codes in use, the perplexity of their use, and how many are never used."""

    use: float
    perplexity: float
    dead: int


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The quality of a catalogue's codes; a figure is None where what it needs was not given.

    Shape:
        information_MM: (codebooks, codebooks) adjusted mutual information, ones on the diagonal.
        category_agreement_M: (codebooks,) adjusted mutual information with the categories.
    """

    items: int
    codebook_size: int
    collision_rate: float
    collision_rate_before: float | None
    reconstruction_error: float
    reconstruction_error_before: float | None
    codebooks: tuple[CodebookQuality, ...]
    information_MM: Float64Array
    expert_overlap: float | None = None
    category_agreement_M: Float64Array | None = None

    @property
    def pairs_X(self) -> Float64Array:
        """The information of each pair of different codebooks, each pair once; empty for a single codebook."""
        return self.information_MM[np.triu_indices(len(self.information_MM), 1)]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the report."""
        pairs_X, agreement_M = self.pairs_X, self.category_agreement_M
        return {
            "items": self.items,
            "collision_rate": self.collision_rate,
            "collision_rate_before": self.collision_rate_before,
            "reconstruction_error": self.reconstruction_error,
            "reconstruction_error_before": self.reconstruction_error_before,
            "codebooks": [
                {"use": book.use, "perplexity": book.perplexity, "dead": book.dead} for book in self.codebooks
            ],
            "mutual_information": {
                "mean": float(pairs_X.mean()) if len(pairs_X) else 0.0,
                "max": float(pairs_X.max()) if len(pairs_X) else 0.0,
                "matrix": [[round(float(value), 6) for value in row] for row in self.information_MM],
            },
            "expert_overlap": self.expert_overlap,
            "category_agreement": None if agreement_M is None else [float(value) for value in agreement_M],
        }


def measure(
    codes_NM: IntArray,
    vectors_NF: FloatArray,
    reconstructed_NF: FloatArray,
    codebook_size: int,
    *,
    nearest_NM: IntArray | None = None,
    reference: ReferenceData | None = None,
) -> Quality:
    """Measure codes against the vectors they stand for.

    The reconstruction error is the squared error as a share of the vectors' variance: 0 is perfect, 1 is the mean.

    Shape:
        codes_NM: (items, codebooks). vectors_NF, reconstructed_NF: (items, features).
        nearest_NM: (items, codebooks) codes before collisions were resolved, if their rate is wanted.
        reference: the experts and the categories, if the tokenizer is to be held against them, and the seed.
    """
    reference = reference or ReferenceData()
    if len(codes_NM) == 0 or vectors_NF.shape != reconstructed_NF.shape or len(codes_NM) != len(vectors_NF):
        raise ValueError(
            f"codes, vectors and reconstructions must be of the same items, at least one, got {codes_NM.shape}, "
            f"{vectors_NF.shape}, {reconstructed_NF.shape}; pass one row an item in each"
        )
    nearest_NF = reference.nearest_NF
    return Quality(
        items=len(codes_NM),
        codebook_size=codebook_size,
        collision_rate=collision_rate(codes_NM),
        collision_rate_before=None if nearest_NM is None else collision_rate(nearest_NM),
        reconstruction_error=relative_error(vectors_NF, reconstructed_NF),
        reconstruction_error_before=None if nearest_NF is None else relative_error(vectors_NF, nearest_NF),
        codebooks=tuple(_codebook(codes_N, codebook_size) for codes_N in codes_NM.T),
        information_MM=information(codes_NM, codes_NM, seed=reference.seed),
        expert_overlap=None
        if reference.experts_FW is None
        else expert_overlap(reference.experts_FW, codes_NM.shape[1]),
        category_agreement_M=None
        if reference.category_N is None
        else information(codes_NM, reference.category_N[:, None], seed=reference.seed)[:, 0],
    )


def relative_error(vectors_NF: FloatArray, reconstructed_NF: FloatArray) -> float:
    """Return the squared error as a share of the vectors' variance; of constant vectors the squared error itself."""
    variance = float(np.square(vectors_NF - vectors_NF.mean(axis=0)).sum(dtype=np.float64))
    error = float(np.square(vectors_NF - reconstructed_NF).sum(dtype=np.float64))
    return error / variance if variance > 0 else error


def collision_rate(codes_NM: IntArray) -> float:
    """Return the share of items that have all codes in common with another item."""
    _, inverse_N, counts_X = np.unique(codes_NM, axis=0, return_inverse=True, return_counts=True)
    return float((counts_X[inverse_N.reshape(-1)] > 1).mean()) if len(codes_NM) else 0.0


def information(left_NM: IntArray, right_NM: IntArray, *, seed: int) -> Float64Array:
    """Return the adjusted mutual information of every column on the left with every column on the right.

    (MI - E) / (mean entropy - E), where E is the mutual information left after shuffling the right side's items (the
    mean of a few shuffles, all columns by the same ones): 0 is chance, 1 is equality up to renaming. Plain normalised
    information would not do: 256 codes on 12,000 items look alike by chance alone. A column with one value has
    no information and gets 0, except that a column always has all of itself. What E is: Vinh, Epps & Bailey, JMLR 2010.

    Shape:
        left_NM: (items, columns). right_NM: (items, columns of the right side).
        returns: (columns, columns of the right side); symmetric if both sides are the same array.
    """
    same, items = left_NM is right_NM, len(left_NM)
    rng = rng_for(seed, "information")
    shuffled = [right_NM[rng.permutation(items)] for _ in range(_SHUFFLES)]
    count_N = np.arange(items + 1, dtype=np.float64)
    log_N = count_N * np.log(np.maximum(count_N, 1))
    entropy_left, entropy_right = ([_entropy(column, log_N) for column in side.T] for side in (left_NM, right_NM))
    size = int(right_NM.max(initial=0)) + 1
    result_MM = np.eye(left_NM.shape[1], right_NM.shape[1]) if same else np.zeros((left_NM.shape[1], right_NM.shape[1]))
    for left, column_N in enumerate(left_NM.T):
        base_N = column_N * size
        for right in range(left + 1 if same else 0, right_NM.shape[1]):
            joint = _entropy(base_N + right_NM[:, right], log_N)
            chance = float(np.mean([_entropy(base_N + other_NM[:, right], log_N) for other_NM in shuffled]))
            room = chance - (entropy_left[left] + entropy_right[right]) / 2
            informative = min(entropy_left[left], entropy_right[right]) > _TINY and room > _TINY
            result_MM[left, right] = (chance - joint) / room if informative else 0.0
    return np.triu(result_MM) + np.triu(result_MM, 1).T if same else result_MM


def _entropy(values_N: IntArray, log_N: Float64Array) -> float:
    """Return the entropy in nats of numbers from 0; ``log_N[c]`` is ``c log c``, looked up instead of computed."""
    few = int(values_N.max(initial=0)) < 16 * len(values_N)
    counts_X = np.bincount(values_N) if few else np.unique(values_N, return_counts=True)[1]
    return float(np.log(len(values_N)) - log_N[counts_X].sum() / len(values_N))


def expert_overlap(experts_FW: FloatArray, num_codebooks: int) -> float:
    """Return the mean absolute cosine between directions of different experts: 0 is orthogonal, 1 is the same.

    Shape:
        experts_FW: (features, codebooks * width), one block of columns an expert.
    """
    if num_codebooks == 1:
        return 0.0
    if experts_FW.shape[1] % num_codebooks:
        raise ValueError(
            f"experts must have equal blocks of columns for {num_codebooks} codebooks, got {experts_FW.shape[1]} "
            f"columns; pass the matrix the codes were made with"
        )
    unit_FW = experts_FW / np.maximum(np.linalg.norm(experts_FW, axis=0), _TINY)
    blocks = np.repeat(np.arange(num_codebooks), experts_FW.shape[1] // num_codebooks)
    return float(np.abs(unit_FW.T @ unit_FW)[blocks[:, None] != blocks].mean())


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
    _check_use(quality, config)
    if quality.collision_rate > config.max_collision_rate:
        raise TokenizerError(
            f"collision rate must be at most {config.max_collision_rate:g}, got {quality.collision_rate:.3f}; set "
            f"tokenizer.resolve_collisions, raise tokenizer.num_codebooks or codebook_size, or give items more text"
        )
    if quality.reconstruction_error > config.max_reconstruction_error:
        raise TokenizerError(
            f"reconstruction error must be at most {config.max_reconstruction_error:g} of the variance, got "
            f"{quality.reconstruction_error:.3f}; raise tokenizer.epochs, num_codebooks or codebook_size"
        )
    _check_independence(quality, config)
    if quality.category_agreement_M is not None:
        agreement = max(0.0, float(quality.category_agreement_M.mean()))
        if agreement < config.min_category_agreement:
            raise TokenizerError(
                f"codebooks must agree with the categories by at least {config.min_category_agreement:g}, got "
                f"{agreement:.3f}; give items more text, raise features.width or tokenizer.epochs"
            )


def _check_use(quality: Quality, config: QualityConfig) -> None:
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


def _check_independence(quality: Quality, config: QualityConfig) -> None:
    knob = "raise tokenizer.orthogonality, or lower tokenizer.num_codebooks"
    pairs_X = quality.pairs_X
    if len(pairs_X) and pairs_X.mean() > config.max_mean_information:
        raise TokenizerError(
            f"codebooks must say different things: mean mutual information at most {config.max_mean_information:g}, "
            f"got {pairs_X.mean():.3f}; {knob}"
        )
    if len(pairs_X) and pairs_X.max() > config.max_pair_information:
        upper_MM = np.triu(quality.information_MM, 1)
        first, second = np.unravel_index(int(upper_MM.argmax()), upper_MM.shape)
        raise TokenizerError(
            f"codebooks {first} and {second} must have a mutual information of at most "
            f"{config.max_pair_information:g}, got {pairs_X.max():.3f}; {knob}"
        )
    if quality.expert_overlap is not None and quality.expert_overlap > config.max_expert_overlap:
        raise TokenizerError(
            f"overlap of the experts must be at most {config.max_expert_overlap:g}, got "
            f"{quality.expert_overlap:.3f}; {knob}, or lower tokenizer.width"
        )
