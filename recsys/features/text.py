"""Owns the text of items and its embedding: TF-IDF with truncated SVD, or a sentence-transformers model.

Axes: N item, F feature.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.core.errors import ConfigError
from recsys.data.schema import BRAND, CATEGORIES, TEXT, TITLE
from recsys.features.reduction import l2_rows, truncated_svd

YEAR = "year"
_MAX_TERMS = 100_000


class TextConfig(Config):
    """How item text becomes vectors."""

    embedder: str = "tfidf"
    """``tfidf``, or the name or path of a sentence-transformers model (``pip install recsys[text]``)."""
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


def embed_text(texts: Sequence[str], config: TextConfig, seed: int) -> FloatArray:
    """Return unit text vectors, shape (items, width); empty texts get zeros, missing dimensions are zero."""
    if config.embedder != "tfidf":
        return _embed_sentences(texts, config, seed)
    matrix_NT = _tfidf(texts, min_df=2)
    if matrix_NT is None:
        matrix_NT = _tfidf(texts, min_df=1)
    if matrix_NT is None:
        return np.zeros((len(texts), config.width), np.float32)
    left_NF, values_F = truncated_svd(matrix_NT, config.width, seed)
    return l2_rows(left_NF * values_F)


def _tfidf(texts: Sequence[str], *, min_df: int) -> Any:
    """Return the (items, terms) matrix, or None where no term is frequent enough."""
    if len(texts) < min_df:
        return None
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), min_df=min_df, max_features=_MAX_TERMS, dtype=np.float32
    )
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" in str(error) or "no terms remain" in str(error):
            return None
        raise


def _embed_sentences(texts: Sequence[str], config: TextConfig, seed: int) -> FloatArray:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            f"features.text.embedder must be 'tfidf' unless sentence-transformers is installed, "
            f"got {config.embedder!r}; pip install recsys[text]"
        ) from error
    from scipy.sparse import csr_matrix

    vectors_NF = np.asarray(SentenceTransformer(config.embedder).encode(list(texts)), np.float32)
    vectors_NF[[not text.strip() for text in texts]] = 0
    if vectors_NF.shape[1] > config.width:
        left_NF, values_F = truncated_svd(csr_matrix(vectors_NF), config.width, seed)
        return l2_rows(left_NF * values_F)
    return l2_rows(np.pad(vectors_NF, ((0, 0), (0, config.width - vectors_NF.shape[1]))))
