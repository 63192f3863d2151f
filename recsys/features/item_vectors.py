"""Item vectors and the blocks they were made of, and their file.

Axes: N item, F feature.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require

REMEDY = "train the run again to make the features"
_FILE, _BLOCK = "features.safetensors", "block."


@dataclass(frozen=True, kw_only=True)
class Features:
    """Item vectors and the blocks they were made of.

    Shape:
        vectors_NF: (items, features) float32.
        blocks: by name, (items, block width) unit rows before weighting; zeros where an item has nothing (a guessed
            behavioural row is part of the vector alone).
    """

    vectors_NF: FloatArray
    blocks: dict[str, FloatArray]

    def save(self, folder: Path) -> None:
        """Write ``features.safetensors`` into a folder."""
        tensors = {f"{_BLOCK}{name}": np.ascontiguousarray(block) for name, block in self.blocks.items()}
        save_file(tensors | {"vectors_NF": np.ascontiguousarray(self.vectors_NF)}, folder / _FILE)

    @staticmethod
    def load_vectors(folder: Path) -> FloatArray:
        """Load the item vectors alone, (items, features)."""
        with safe_open(require(folder / _FILE, remedy=REMEDY), framework="np") as tensors:
            vectors_NF: FloatArray = tensors.get_tensor("vectors_NF")
        return vectors_NF

    @classmethod
    def load(cls, folder: Path) -> "Features":
        """Load saved features."""
        tensors = load_file(require(folder / _FILE, remedy=REMEDY))
        vectors_NF = tensors.pop("vectors_NF")
        return cls(vectors_NF=vectors_NF, blocks={key.removeprefix(_BLOCK): block for key, block in tensors.items()})
