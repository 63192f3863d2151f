"""Text vectors: the built-in TF-IDF with SVD, or a sentence-transformers model by name or path."""

import numpy as np
import pyarrow as pa
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.core.errors import ConfigError
from recsys.data.schema import BRAND, CATEGORIES, TEXT, TITLE

LIST_COLUMNS = (CATEGORIES, "genres", "tags")
"""Columns that hold lists of words."""


class TextConfig(Config):
    """How an item's words become a vector."""

    embedder: str = "tfidf"
    """``tfidf``, or the name or path of a sentence-transformers model (extra ``text``)."""
    width: int = 128
    """Width of TF-IDF's reduced space; a model has its own."""


def item_texts(items: pa.Table) -> list[str]:
    """Return each item's words: its ``text`` where it has one, else title, brand, year and lists joined."""
    names = [TEXT] if TEXT in items.column_names else [TITLE, BRAND, "year", *LIST_COLUMNS]
    columns = [items[name].to_pylist() for name in names if name in items.column_names]
    return [" ".join(_words(value) for value in row) for row in zip(*columns, strict=True)] or [""] * items.num_rows


def _words(value: object) -> str:
    if isinstance(value, list):
        return " ".join(str(part) for part in value)
    return "" if value is None else str(value)


def embed_text(texts: list[str], config: TextConfig, seed: int) -> FloatArray:
    """Return one unit vector per text, shape (items, width); a text without words is all zeros."""
    if config.embedder != "tfidf":
        return _embed_by_model(texts, config.embedder)
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    out = np.zeros((len(texts), config.width), np.float32)
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no term occurs twice: nothing that items could share
        return out
    width = min(config.width, weights.shape[1] - 1, weights.shape[0] - 1)
    if width < 1:
        return out
    reduced = TruncatedSVD(n_components=width, random_state=seed).fit_transform(weights)
    out[:, :width] = normalize(reduced)
    return out


def _embed_by_model(texts: list[str], name: str) -> FloatArray:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(f"features.text.embedder {name!r} needs `pip install recsys[text]`") from error
    vectors: FloatArray = SentenceTransformer(name).encode(texts, normalize_embeddings=True)
    return np.asarray(vectors, np.float32)
