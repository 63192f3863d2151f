"""The meaning of a release's codes: words of each (codebook, code), and which items have it.

Axes: N item, M codebook.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.codes.words import code_words
from recsys.core.arrays import BoolArray, IntArray

Code = tuple[int, int]
"""A codebook and one of its codes."""


@dataclass(frozen=True, kw_only=True)
class FacetCount:
    """A facet, its words and how many items have it."""

    codebook: int
    code: int
    words: str
    items: int


@dataclass(frozen=True, kw_only=True, eq=False)
class FacetTable:
    """The words of codes, and the codes of items.

    Shape:
        codes_NM: (items, codebooks).
    """

    words: Mapping[Code, str]
    codes_NM: IntArray
    _of_words: Mapping[str, tuple[Code, ...]]

    def name(self, codebook: int, code: int) -> str:
        """Return the words of a code, or its numbers where it has none."""
        return code_words(self.words, codebook, code)

    def names(self, row: int) -> list[str]:
        """Return the words of an item's codes."""
        return [self.name(codebook, code) for codebook, code in enumerate(self.codes_NM[row].tolist())]

    def codes_of(self, words: str) -> tuple[Code, ...]:
        """Return the codes with these words, upper and lower case being one; none where there are none."""
        return self._of_words.get(words.strip().casefold(), ())

    def holds(self, code: Code) -> bool:
        """Tell whether a (codebook, code) exists in some item."""
        codebook, number = code
        return 0 <= codebook < self.codes_NM.shape[1] and bool((self.codes_NM[:, codebook] == number).any())

    def having(self, code: Code) -> BoolArray:
        """Return which items have a code, shape (items,)."""
        return np.asarray(self.codes_NM[:, code[0]] == code[1])

    def count(self, eligible_N: BoolArray) -> list[FacetCount]:
        """Return the codes that eligible items have, with words, most items first.

        Shape:
            eligible_N: (items,).
        """
        found: list[FacetCount] = []
        for codebook in range(self.codes_NM.shape[1]):
            codes, counts = np.unique(self.codes_NM[eligible_N, codebook], return_counts=True)
            found += [
                FacetCount(codebook=codebook, code=code, words=self.name(codebook, code), items=items)
                for code, items in zip(codes.tolist(), counts.tolist(), strict=True)
            ]
        return sorted(found, key=lambda facet: (-facet.items, facet.codebook, facet.code))


def facet_table(codes_NM: IntArray, words: Mapping[Code, str]) -> FacetTable:
    """Return the table of a catalogue's codes and their words.

    Shape:
        codes_NM: (items, codebooks).
    """
    of_words: dict[str, tuple[Code, ...]] = {}
    for code, text in sorted(words.items()):
        key = text.strip().casefold()
        of_words[key] = (*of_words.get(key, ()), code)
    return FacetTable(words=dict(words), codes_NM=codes_NM, _of_words=of_words)


def no_facets(num_items: int) -> FacetTable:
    """Return the table of a catalogue whose codes are not known."""
    return facet_table(np.zeros((num_items, 0), np.int64), {})
