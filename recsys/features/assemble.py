"""The item vector: text, behaviour and given vectors side by side, reduced by PCA.

Axes: N item, F feature.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require
from recsys.core.config import Config
from recsys.core.errors import DataError
from recsys.core.seeds import derive_seed
from recsys.data.events import EventLog
from recsys.data.schema import VECTOR_PREFIX
from recsys.features.behavioural import BehaviouralConfig, behavioural_vectors
from recsys.features.text import TextConfig, embed_text, item_texts


class FeatureConfig(Config):
    """Which vectors an item has."""

    text: TextConfig = TextConfig()
    """Words."""
    behavioural: BehaviouralConfig = BehaviouralConfig()
    """Co-occurrence in the training part of histories."""
    use_text: bool = True
    """Whether words count."""
    use_behavioural: bool = True
    """Whether behaviour counts."""
    use_given: bool = True
    """Whether columns named ``vector_*`` count."""
    text_weight: float = 1.0
    """Scale of the text block."""
    behavioural_weight: float = 1.0
    """Scale of the behavioural block."""
    width: int = 256
    """Width after PCA; 0 keeps the concatenation as it is."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Item vectors, shape (items, features)."""

    vectors_NF: FloatArray

    def save(self, folder: Path) -> None:
        """Write ``vectors.safetensors``."""
        save_file({"vectors": np.ascontiguousarray(self.vectors_NF)}, folder / "vectors.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "Features":
        """Load saved vectors."""
        path = require(folder / "vectors.safetensors", remedy="train the run again to make item vectors")
        return cls(vectors_NF=load_file(path)["vectors"])


def assemble(items: pa.Table, log: EventLog, config: FeatureConfig, seed: int) -> Features:
    """Build every block, weigh, concatenate and reduce.

    Raises:
        DataError: nothing is left to describe items, or a given vector is not finite.
    """
    blocks: list[FloatArray] = []
    if config.use_text:
        blocks.append(config.text_weight * embed_text(item_texts(items), config.text, derive_seed(seed, "text")))
    if config.use_behavioural:
        vectors = behavioural_vectors(log, config.behavioural, derive_seed(seed, "behavioural"))
        blocks.append(config.behavioural_weight * vectors)
    if config.use_given:
        blocks.extend(_given(items, name) for name in items.column_names if name.startswith(VECTOR_PREFIX))
    if not blocks:
        raise DataError("items need at least one kind of vector; turn on use_text, use_behavioural or use_given")
    joined = np.concatenate(blocks, axis=1).astype(np.float32)
    width = min(config.width, *joined.shape)
    if 0 < width < joined.shape[1]:
        pca = PCA(n_components=width, svd_solver="covariance_eigh", random_state=derive_seed(seed, "pca"))
        joined = pca.fit_transform(joined).astype(np.float32)
    return Features(vectors_NF=joined)


def _given(items: pa.Table, name: str) -> FloatArray:
    """Return a column of fixed-size lists as unit rows; items without a vector are all zeros."""
    rows = items[name].to_pylist()
    width = next((len(row) for row in rows if row is not None), 0)
    vectors = np.array([row if row is not None else [0.0] * width for row in rows], dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise DataError(f"items column {name} must hold finite numbers, got NaN or infinity; repair or drop the column")
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
