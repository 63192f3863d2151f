"""Owns the code layout: which token id is which (codebook, code).

Axes: none; tokens are numbered codebook by codebook.
"""

from pydantic import PositiveInt

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

    def token(self, codebook: int, code: int) -> int:
        """Return the token id of a code of a codebook."""
        if not (0 <= codebook < self.num_codebooks and 0 <= code < self.codebook_size):
            raise ValueError(
                f"(codebook, code) must be below ({self.num_codebooks}, {self.codebook_size}), "
                f"got ({codebook}, {code}); use the layout the codes were made with"
            )
        return codebook * self.codebook_size + code

    def split(self, token: int) -> tuple[int, int]:
        """Return the codebook and the code of a token id."""
        if not 0 <= token < self.num_tokens:
            raise ValueError(
                f"a token must be below {self.num_tokens}, got {token}; use the layout the codes were made with"
            )
        return divmod(token, self.codebook_size)
