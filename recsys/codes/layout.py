"""The code layout: which token id is which (codebook, code).

Axes: M codebook. Tokens are numbered codebook by codebook.
"""

import numpy as np
from pydantic import PositiveInt

from recsys.core.arrays import IntArray
from recsys.core.config import Config


class CodeLayout(Config):
    """How many codebooks an item has a code in, and how many codes each codebook has."""

    num_codebooks: PositiveInt
    """Number of codebooks, which is also the number of codes of an item."""
    codebook_size: PositiveInt
    """Number of codes in every codebook."""

    @property
    def num_tokens(self) -> int:
        """Number of different tokens."""
        return self.num_codebooks * self.codebook_size

    @property
    def first_token_M(self) -> IntArray:
        """The token id of code 0 of every codebook, (codebooks,): a code's token id is this plus the code."""
        return np.arange(self.num_codebooks) * self.codebook_size
