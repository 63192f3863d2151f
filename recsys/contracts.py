"""The values and protocols that cross the walls between packages.

Axes: B batch, P path, M codebook, K code, N item, Q category.
Items travel as catalogue indices (0..N-1, the row order of ``items.parquet`` in a run's data folder); external
ids appear only at the borders (importers, command line, HTTP).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """What one user did, oldest first; ``timestamps`` are unix seconds, one per item."""

    items: IntArray
    timestamps: IntArray

    def __post_init__(self) -> None:
        if self.items.shape != self.timestamps.shape or self.items.ndim != 1:
            raise ValueError(
                f"a history needs one timestamp per item, got items {self.items.shape} and "
                f"timestamps {self.timestamps.shape}"
            )

    def last(self, n: int) -> "History":
        """Return the most recent ``n`` events."""
        return History(items=self.items[-n:], timestamps=self.timestamps[-n:])


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One reasoning step: the codebook that was most certain, the code chosen from it, and how certain."""

    codebook: int
    code: int
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """The steps that led to an item, their summed log-probability, and why the path was cut if it was."""

    steps: tuple[Step, ...]
    log_prob: float
    pruned: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slate:
    """Ranked items, best first, with a score each and, where the recommender reasons, the paths to each.

    ``items`` are distinct catalogue indices, ``scores`` never increase. ``paths[i]`` are the live paths that reached
    ``items[i]``; ``pruned`` are the paths that were cut on the way.
    """

    items: IntArray
    scores: FloatArray
    paths: tuple[tuple[Path, ...], ...] = ()
    pruned: tuple[Path, ...] = ()


@runtime_checkable
class Recommender(Protocol):
    """Whatever ranks items for histories: ours, a rival, a fallback."""

    name: str

    def recommend(
        self,
        histories: Sequence[History],
        *,
        n: int,
        keep_seen: bool = False,
        eligible_N: BoolArray | None = None,
    ) -> list[Slate]:
        """Return one slate per history with up to ``n`` items.

        Args:
            histories: what each user did; may be empty histories.
            n: the wanted slate length; fewer items only when fewer are eligible.
            keep_seen: whether items of the history may be recommended again.
            eligible_N: (items,) bool, True means the item may be recommended; None allows all.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScores:
    """What a scorer says about partial paths.

    Shape:
        logits_PMK: (paths, codebooks, codes), unnormalised, every codebook scored whether used or not.
        category_PQ: (paths, categories), probabilities, rows sum to one.
    """

    logits_PMK: FloatArray
    category_PQ: FloatArray


class StepScorer(Protocol):
    """Scores the next step of partial paths; decoding knows nothing else about a model."""

    def encode(self, histories: Sequence[History]) -> Any:
        """Return an opaque context with one row per history."""
        ...

    def score_steps(self, context: Any, row_P: IntArray, codes_PM: IntArray) -> StepScores:
        """Score partial paths.

        Shape:
            row_P: (paths,) which row of the context each path belongs to.
            codes_PM: (paths, codebooks) the chosen code, or -1 where a codebook is still free.
        """
        ...

    def score_items(self, context: Any) -> FloatArray:
        """Return the item head's log-probabilities, shape (rows, items)."""
        ...


def empty_history() -> History:
    """Return the history of a user nobody has seen."""
    return History(items=np.empty(0, np.int64), timestamps=np.empty(0, np.int64))
