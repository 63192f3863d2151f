"""The prompts of alignment: histories inside the training log, the items that followed, and cross-fitted prior scores.

Axes: B prompt, H next item of a window, E event, N item, J co-occurrence window, X chosen prompt, or entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from recsys.contracts import History
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import DataError
from recsys.data.events import EventLog
from recsys.model.cooccurrence_prior import Fold


@dataclass(frozen=True, kw_only=True)
class PromptTable:
    """Histories, the window of items after each, and the scores of a prior counted without the user.

    Shape:
        targets_BH: (prompts, window) the items at t+1..t+h, -1 where the training log of the user ends.
        prior_scores: for each window of the prior sparse (prompts, items); empty without a prior.
    """

    histories: Sequence[History]
    targets_BH: IntArray
    num_items: int
    prior_scores: Sequence[csr_array] = ()

    def __len__(self) -> int:
        return len(self.histories)

    def new_to(self, prompt_X: IntArray) -> BoolArray:
        """Return which items are not in the prompts' histories, shape (chosen prompts, items)."""
        new_XN = np.ones((len(prompt_X), self.num_items), np.bool_)
        for row, prompt in enumerate(prompt_X.tolist()):
            new_XN[row, self.histories[prompt].items] = False
        return new_XN

    def prior_scores_of(self, prompt_X: IntArray) -> list[csr_array]:
        """Return each window's scores of some prompts, sparse (chosen prompts, items) each."""
        return [prior_BN[prompt_X] for prior_BN in self.prior_scores]


def draw_prompts(  # noqa: PLR0913 (log, number of prompts, and how they are drawn)
    log: EventLog,
    *,
    count: int,
    window: int,
    rng: np.random.Generator,
    folds: Sequence[Fold] = (),
    latest: int = 0,
    rarity: float = 0.0,
) -> PromptTable:
    """Draw positions of a training log with an event before and one after, without repeats if it has enough.

    A position whose history holds the whole catalogue is passed over: no path can lead to an item that is new.

    Args:
        log: the training log (``recsys.data.splits.training_log``); nothing outside it is read.
        count: how many prompts.
        window: how many next items (h).
        rng: where the draw comes from.
        folds: users with a prior counted without their own pairs; none for no prior.
        latest: targets are among so many of a user's latest events; 0 takes any.
        rarity: a position is drawn in proportion to the events of its next item to the power of minus this; 0 draws
            all alike.
    """
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    place_E = np.arange(len(users_E))
    from_end_E = log.offsets_U1[users_E + 1] - place_E
    open_E = log.distinct_before_E < log.num_items
    next_E = np.flatnonzero((place_E > log.offsets_U1[users_E]) & (from_end_E <= (latest or len(users_E))) & open_E)
    if not len(next_E):
        raise DataError(
            "the training log must have a user with two events who lacks an item, got none; import more interactions"
        )
    share_X = log.counts_N[log.items_E[next_E]] ** -rarity
    drawn_B = rng.choice(next_E, size=count, replace=len(next_E) < count, p=share_X / share_X.sum() if rarity else None)
    users_B = users_E[drawn_B]
    starts_B, ends_B = log.offsets_U1[users_B], log.offsets_U1[users_B + 1]
    at_BH = drawn_B[:, None] + np.arange(window)
    inside_BH = at_BH < ends_B[:, None]
    targets_BH = np.where(inside_BH, log.items_E[np.where(inside_BH, at_BH, 0)], -1).astype(np.int64)
    histories = [
        History(items=log.items_E[start:stop], timestamps=log.timestamps_E[start:stop])
        for start, stop in zip(starts_B, drawn_B, strict=True)
    ]
    return PromptTable(
        histories=histories,
        targets_BH=targets_BH,
        num_items=log.num_items,
        prior_scores=_prior_scores(histories, users_B, folds, num_items=log.num_items),
    )


def _prior_scores(
    histories: Sequence[History], users_B: IntArray, folds: Sequence[Fold], *, num_items: int
) -> list[csr_array]:
    """Return each window's prior scores for the prompts, each from the prior of its user's fold."""
    windows = len(folds[0].prior.tables) if folds else 0
    entries: list[list[tuple[IntArray, NDArray[Any], NDArray[Any]]]] = [[] for _ in range(windows)]
    for fold in folds:
        inside_B = np.flatnonzero(fold.log.lengths_U[users_B] > 0)
        for window, prior_XN in enumerate(fold.prior.scores([histories[prompt].items for prompt in inside_B.tolist()])):
            part = prior_XN.tocoo()
            entries[window].append((inside_B[part.row], part.col, part.data))
    shape = (len(histories), num_items)
    return [
        coo_array((np.concatenate(data), (np.concatenate(rows), np.concatenate(cols))), shape=shape).tocsr()
        for rows, cols, data in (zip(*parts, strict=True) for parts in entries)
    ]
