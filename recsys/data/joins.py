"""Comparison of the item ids of a log with those of an items table, and a likely reason where they differ."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

_GUESSES: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("zeros in front were lost in one of the files", lambda text: text.lstrip("0")),
    ("capitals differ", str.casefold),
    ("accents are composed in two ways", lambda text: unicodedata.normalize("NFC", text)),
    ("blanks or signs differ", lambda text: "".join(filter(str.isalnum, text)).casefold()),
)
_SAMPLE = 10_000


@dataclass(frozen=True, kw_only=True)
class Join:
    """Which items of a log are in a table of items."""

    in_log: int
    """Different items of the log."""
    in_table: int
    """Rows of the table."""
    without_metadata: int
    """Items of the log that the table lacks."""
    never_used: int
    """Rows of the table that no event names."""
    example_of_log: str | None
    """An item of the log that the table lacks."""
    example_of_table: str | None
    """An item of the table that no event names."""
    guess: str | None
    """What may explain the difference, e.g. capitals or a prefix."""

    @property
    def mostly_apart(self) -> bool:
        """Whether the table lacks more than half of the log's items."""
        return 2 * self.without_metadata > self.in_log

    def __str__(self) -> str:
        """Return the counts, an example of each side and the guess."""
        note = f"{self.without_metadata:,} of {self.in_log:,} items of the log have no metadata"
        if self.example_of_log is not None:
            note += f" (e.g. {self.example_of_log!r})"
        note += f"; {self.never_used:,} of {self.in_table:,} items with metadata are in no event"
        if self.example_of_table is not None:
            note += f" (e.g. {self.example_of_table!r})"
        return note + (f"; perhaps {self.guess}" if self.guess else "")


def join_items(log_ids: pa.Array, table_ids: pa.Array) -> Join:
    """Compare the different item ids of a log with those of a table, both as text."""
    lost = log_ids.filter(pc.invert(pc.is_in(log_ids, value_set=table_ids)))
    unused = table_ids.filter(pc.invert(pc.is_in(table_ids, value_set=log_ids)))
    return Join(
        in_log=len(log_ids),
        in_table=len(table_ids),
        without_metadata=len(lost),
        never_used=len(unused),
        example_of_log=lost[0].as_py() if len(lost) else None,
        example_of_table=unused[0].as_py() if len(unused) else None,
        guess=_guess(lost[:_SAMPLE].to_pylist(), unused[:_SAMPLE].to_pylist()),
    )


def _guess(lost: list[str], unused: list[str]) -> str | None:
    """Return the first rewriting that makes half of the lost ids meet unused ones."""
    for words, rewritten in _GUESSES:
        known = {rewritten(text) for text in unused} - {""}
        if lost and 2 * sum(rewritten(text) in known for text in lost) >= len(lost):
            return words
    return None
