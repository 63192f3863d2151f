"""Seeds and random generators, derived from a root seed and names."""

import hashlib

import numpy as np


def derive_seed(root: int, *names: str | int) -> int:
    """Return a 31-bit seed that depends on ``root`` and the names alone, e.g. ``derive_seed(7, "tokenizer")``."""
    text = ":".join(str(part) for part in (root, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def rng_for(root: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(root, *names))
