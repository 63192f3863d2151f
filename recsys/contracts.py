"""The values and protocols that cross the walls between packages.

The axes of arrays are the upper-case letters at the end of a name, and one letter is one axis in the whole package:

    B batch row (a request, a history, a prompt)     C candidate item that remains on a path
    T time (a place in a history, a token)           L live path
    M codebook                                       S slate position
    K code of a codebook                             R training row (a position, a sampled path)
    D width of vectors                               G group of rollouts of one prompt
    P path                                           J co-occurrence window
    N item of the catalogue                          U user
    Q category                                       E event
    F feature

Any other letter is local: the first lines of a module say what it stands for there. ``1`` beside a letter is one
entry more (offsets), or a kept axis of length one.

Items travel as catalogue indices (0..N-1, the row order of ``items.parquet`` in a run's data folder); external
ids appear only at the borders (importers, command line, HTTP).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.errors import CallError


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """What one user did, oldest first; ``timestamps`` are unix seconds, one per item.

    An event that came without a time has that of the serving moment: now, unless the caller gives another.
    """

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


CodeRef = tuple[int, int]
"""A codebook and one of its codes: what a facet names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Steering:
    """The codes that a request favours or bars.

    ``prefer`` raises the score of items that have one of these codes. ``require`` admits only items that have, in every
    codebook named here, one of the codes named for it. ``avoid`` admits only items that have none of these codes.
    """

    prefer: frozenset[CodeRef] = frozenset()
    require: frozenset[CodeRef] = frozenset()
    avoid: frozenset[CodeRef] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Request:
    """One user's request to a recommender.

    ``n`` is the wanted length of the slate; it is shorter only where fewer items are eligible. ``keep_seen`` says
    whether items of the history may be recommended again. ``whole_catalogue`` asks a recommender that ranks what paths
    reach to rank all eligible items instead, or not to; None leaves it as it is set, and others rank all in any case.
    A recommender that cannot steer refuses ``steering``.

    Shape:
        eligible_N: (items,) bool, True means the item may be recommended; None allows all.
    """

    history: History
    n: int = 10
    eligible_N: BoolArray | None = None
    keep_seen: bool = False
    whole_catalogue: bool | None = None
    steering: Steering | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}; ask for one item or more")


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

    def first(self, n: int) -> "Slate":
        """Return the ``n`` best items with their paths."""
        if n >= len(self.items):
            return self
        return Slate(items=self.items[:n], scores=self.scores[:n], paths=self.paths[:n], pruned=self.pruned)


@runtime_checkable
class Recommender(Protocol):
    """Whatever ranks items for histories: ours, a rival, a fallback."""

    name: str

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return one slate per request, in the order of the requests; a history may be empty."""
        ...


def requests_for(
    histories: Sequence[History], *, n: int, keep_seen: bool = False, eligible_N: BoolArray | None = None
) -> list[Request]:
    """Return one request per history, all alike but for the history.

    Shape:
        eligible_N: (items,) True where an item may be recommended; None allows all.
    """
    return [Request(history=history, n=n, keep_seen=keep_seen, eligible_N=eligible_N) for history in histories]


def eligible_items(requests: Sequence[Request], num_items: int) -> BoolArray:
    """Return which items each request admits: the eligible ones, without those of the history unless kept.

    Shape:
        result: (requests, items), True where the item may be recommended.
    """
    eligible_BN = np.ones((len(requests), num_items), np.bool_)
    for eligible_N, request in zip(eligible_BN, requests, strict=True):
        if request.eligible_N is not None:
            eligible_N[:] = request.eligible_N
        if not request.keep_seen:
            eligible_N[request.history.items] = False
    return eligible_BN


def eligible_or_all(requests: Sequence[Request], num_items: int) -> BoolArray | None:
    """Return :func:`eligible_items`, or None where no request bars any item.

    Shape:
        result: (requests, items), True where the item may be recommended.
    """
    if all(request.keep_seen and request.eligible_N is None for request in requests):
        return None
    return eligible_items(requests, num_items)


def require_unsteered(requests: Sequence[Request], name: str) -> None:
    """Raise a CallError if a request steers; ``name`` is the recommender that cannot."""
    if any(request.steering is not None for request in requests):
        raise CallError(f"{name} cannot steer by codes; leave steering out or ask another recommender")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScores:
    """A scorer's scores of partial paths.

    Shape:
        logits_PMK: (paths, codebooks, codes), unnormalised, every codebook scored whether used or not.
        category_PQ: (paths, categories), probabilities, rows sum to one.
    """

    logits_PMK: FloatArray
    category_PQ: FloatArray


ItemScores: TypeAlias = Callable[[Sequence[History]], FloatArray]
"""Returns a log-probability, or another score, of every item after each history, (histories, items)."""


class StepScorer(Protocol):
    """Scores the next step of partial paths; all that a search needs of a model."""

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


class ItemScorer(Protocol):
    """Scores all items from the context of a step scorer."""

    def score_items(self, context: Any) -> FloatArray:
        """Return log-probabilities, shape (rows of the context, items)."""
        ...


class Scorer(StepScorer, ItemScorer, Protocol):
    """Scores both steps and items, from one context."""


def empty_history() -> History:
    """Return the history of a user nobody has seen."""
    return History(items=np.empty(0, np.int64), timestamps=np.empty(0, np.int64))
