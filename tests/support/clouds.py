"""Random item vectors for tests of tokenizers."""

import numpy as np

from recsys.core.arrays import FloatArray


def cloud(items: int = 100, width: int = 6, seed: int = 0) -> FloatArray:
    """Return normal vectors, shape (items, width)."""
    return np.random.default_rng(seed).normal(size=(items, width)).astype(np.float32)
