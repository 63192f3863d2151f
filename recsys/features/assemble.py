"""Owns the item vector: text, behavioural and given blocks, weighted, concatenated, reduced by PCA.

Axes: N item, F feature.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field
from safetensors.numpy import load_file, save_file

from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require
from recsys.core.config import Config
from recsys.core.errors import ConfigError, DataError
from recsys.data.events import EventLog
from recsys.data.schema import VECTOR_PREFIX
from recsys.features.behavioural import BehaviouralConfig, behavioural_vectors
from recsys.features.reduction import l2_rows, pca
from recsys.features.text import TextConfig, embed_text, item_texts

_FILE = "features.safetensors"
_BLOCK = "block."


class FeatureConfig(Config):
    """Which blocks make an item's vector."""

    text: TextConfig = TextConfig()
    """The text block."""
    behavioural: BehaviouralConfig = BehaviouralConfig()
    """The behavioural block."""
    use_text: bool = True
    """Whether text counts."""
    use_behavioural: bool = True
    """Whether behaviour counts."""
    use_given: bool = True
    """Whether the columns named ``vector_*`` count."""
    text_weight: float = Field(default=1.0, gt=0)
    """Length of a row of the text block."""
    behavioural_weight: float = Field(default=1.0, gt=0)
    """Length of a row of the behavioural block."""
    given_weight: float = Field(default=1.0, gt=0)
    """Length of a row of each given block."""
    width: int | None = Field(default=256, ge=1)
    """PCA width of the concatenation (fewer if there are fewer dimensions); none keeps the concatenation."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Item vectors and the blocks they were made of.

    Shape:
        vectors_NF: (items, features) float32.
        blocks: by name, (items, block width) unit rows before weighting.
    """

    vectors_NF: FloatArray
    blocks: dict[str, FloatArray]

    def save(self, folder: Path) -> None:
        """Write ``features.safetensors`` into a folder."""
        tensors = {f"{_BLOCK}{name}": np.ascontiguousarray(block) for name, block in self.blocks.items()}
        save_file(tensors | {"vectors_NF": np.ascontiguousarray(self.vectors_NF)}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> "Features":
        """Load saved features."""
        tensors = load_file(require(folder / _FILE, remedy="train the run again to make the features"))
        vectors_NF = tensors.pop("vectors_NF")
        return cls(vectors_NF=vectors_NF, blocks={key.removeprefix(_BLOCK): block for key, block in tensors.items()})


def assemble(items: pa.Table, log: EventLog, config: FeatureConfig, seed: int) -> Features:
    """Return every item's vector; behaviour is read from ``log`` alone, so pass the training part.

    Raises:
        ConfigError: no block is left.
        DataError: a given vector cannot be used.
    """
    if items.num_rows != log.num_items:
        raise ValueError(f"items must be the log's {log.num_items}, got {items.num_rows}; pass the same catalogue")
    blocks: dict[str, FloatArray] = {}
    weights: dict[str, float] = {}
    if config.use_text:
        blocks["text"], weights["text"] = embed_text(item_texts(items), config.text, seed), config.text_weight
    if config.use_behavioural:
        blocks["behavioural"] = behavioural_vectors(log, config.behavioural, seed)
        weights["behavioural"] = config.behavioural_weight
    if config.use_given:
        for name in (name for name in items.column_names if name.startswith(VECTOR_PREFIX)):
            blocks[name], weights[name] = given_vectors(items, name), config.given_weight
    if not blocks:
        raise ConfigError("features must have at least one block, got none; turn on features.use_text or another")
    joined_NF = np.concatenate([weights[name] * block for name, block in blocks.items()], axis=1)
    vectors_NF = joined_NF.astype(np.float32) if config.width is None else pca(joined_NF, config.width)
    return Features(vectors_NF=vectors_NF, blocks=blocks)


def given_vectors(items: pa.Table, name: str) -> FloatArray:
    """Return a column of vectors as unit rows, shape (items, its width); missing vectors are zeros."""
    rows = items[name].to_pylist()
    widths = sorted({len(row) for row in rows if row is not None})
    if len(widths) != 1:
        raise DataError(
            f"items.{name} must hold vectors of one width, got widths {widths}; write it as a fixed-size list"
        )
    vectors_NF = np.array([row if row is not None else [0.0] * widths[0] for row in rows], np.float32)
    if not np.isfinite(vectors_NF).all():
        row = int(np.flatnonzero(~np.isfinite(vectors_NF).all(axis=1))[0])
        raise DataError(f"items.{name} must be finite, got NaN or infinity in row {row}; repair or null that vector")
    return l2_rows(vectors_NF)
