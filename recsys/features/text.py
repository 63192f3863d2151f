"""The text of items and its embedding: TF-IDF with truncated SVD, or a sentence-transformers model.

Axes: N item, T term (or dimension of a sentence embedding), F feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.core.errors import ConfigError
from recsys.data.schema import BRAND, CATEGORIES, TEXT, TITLE, YEAR
from recsys.features.reduction import fit_projection, l2_rows

_MAX_TERMS = 100_000


class TextConfig(Config):
    """How item text becomes vectors."""

    embedder: str = "tfidf"
    """``tfidf``, or the name or path of a sentence-transformers model (``pip install '.[text]'``)."""
    width: int = Field(default=128, ge=1)
    """Width of the text block; a wider sentence embedding is reduced to it."""


def item_texts(items: pa.Table) -> list[str]:
    """Return one text an item: its ``text``, else its title, brand, categories, other word lists and year."""
    names = [name for name in (TITLE, BRAND) if name in items.column_names]
    lists = [field.name for field in items.schema if is_word_list(field.type)]
    names += sorted(lists, key=lambda name: name != CATEGORIES)
    names += [YEAR] if YEAR in items.column_names else []
    columns = [items[name].to_pylist() for name in names]
    joined = ["; ".join(filter(None, map(_as_text, row))) for row in zip(*columns, strict=True)]
    joined = joined or [""] * items.num_rows
    if TEXT not in items.column_names:
        return joined
    return [text or other for text, other in zip(items[TEXT].to_pylist(), joined, strict=True)]


def is_word_list(kind: Any) -> bool:
    """Tell whether an Arrow type is a list of strings."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(str(part) for part in value if part) if isinstance(value, list) else str(value)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextEncoder:
    """A fitted text embedding that gives new texts vectors in the space of those it was fitted on.

    Shape:
        idf_T: (terms,), empty for a sentence embedder.
        axes_TF: (terms, width), or (0, 0) where sentence embeddings are only padded.
    """

    config: TextConfig
    terms: tuple[str, ...]
    idf_T: FloatArray
    axes_TF: FloatArray

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, seed: int) -> "tuple[TextEncoder, FloatArray]":
        """Return the encoder and the unit vectors of the texts it was fitted on, shape (items, width)."""
        if config.embedder != "tfidf":
            return cls._fit_sentences(texts, config, seed)
        fitted = _tfidf(texts, min_df=2) or _tfidf(texts, min_df=1)
        if fitted is None:
            nothing = cls(config=config, terms=(), idf_T=np.zeros(0, np.float32), axes_TF=_no_axes())
            return nothing, np.zeros((len(texts), config.width), np.float32)
        vectorizer, matrix_NT = fitted
        scores_NF, axes_TF = fit_projection(matrix_NT, config.width, seed)
        # Rounding leaves such a row a hair off zero, and scaling it to length one would make words of the noise.
        scores_NF[np.diff(matrix_NT.indptr) == 0] = 0
        terms = tuple(str(term) for term in vectorizer.get_feature_names_out())
        encoder = cls(config=config, terms=terms, idf_T=vectorizer.idf_.astype(np.float32), axes_TF=axes_TF)
        return encoder, l2_rows(scores_NF)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return unit vectors, shape (items, width); a text without any known term gets zeros."""
        nothing_known = self.config.embedder == "tfidf" and not self.terms
        if not texts or nothing_known:
            return np.zeros((len(texts), self.config.width), np.float32)
        if self.config.embedder != "tfidf":
            return self._reduced(_sentence_vectors(texts, self.config))
        vectorizer = _vectorizer(vocabulary={term: number for number, term in enumerate(self.terms)})
        vectorizer.idf_ = self.idf_T
        return l2_rows(vectorizer.transform(texts) @ self.axes_TF)

    @classmethod
    def _fit_sentences(cls, texts: Sequence[str], config: TextConfig, seed: int) -> "tuple[TextEncoder, FloatArray]":
        vectors_NT = _sentence_vectors(texts, config)
        axes_TF = _no_axes()
        if vectors_NT.shape[1] > config.width:
            scores_NF, axes_TF = fit_projection(csr_array(vectors_NT), config.width, seed)
            scores_NF[~vectors_NT.any(axis=1)] = 0
        encoder = cls(config=config, terms=(), idf_T=np.zeros(0, np.float32), axes_TF=axes_TF)
        return encoder, l2_rows(scores_NF) if axes_TF.size else encoder._reduced(vectors_NT)

    def _reduced(self, vectors_NT: FloatArray) -> FloatArray:
        if self.axes_TF.size:
            return l2_rows(vectors_NT @ self.axes_TF)
        return l2_rows(np.pad(vectors_NT, ((0, 0), (0, self.config.width - vectors_NT.shape[1]))))


def _no_axes() -> FloatArray:
    return np.zeros((0, 0), np.float32)


def _vectorizer(**settings: Any) -> TfidfVectorizer:
    return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), dtype=np.float32, **settings)


def _tfidf(texts: Sequence[str], *, min_df: int) -> tuple[TfidfVectorizer, csr_array] | None:
    """Return the fitted vectorizer and the (items, terms) matrix, or None where no term is frequent enough."""
    if len(texts) < min_df:
        return None
    vectorizer = _vectorizer(min_df=min_df, max_features=_MAX_TERMS)
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" in str(error) or "no terms remain" in str(error):
            return None
        raise


def _sentence_vectors(texts: Sequence[str], config: TextConfig) -> FloatArray:
    """Return the embedder's own vectors, zeros for empty texts, shape (items, its width)."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            f"features.text.embedder must be 'tfidf' unless sentence-transformers is installed, "
            f"got {config.embedder!r}; pip install '.[text]'"
        ) from error
    vectors_NT: FloatArray = np.asarray(SentenceTransformer(config.embedder).encode(list(texts)), np.float32)
    vectors_NT[[not text.strip() for text in texts]] = 0
    return vectors_NT
