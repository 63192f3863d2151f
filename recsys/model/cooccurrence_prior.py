"""The item-item co-occurrence prior: sparse tables of other users' pairs whose scores join the item head's logits.

The item head learns a weight for each table. A history's own pairs are in a table counted over all users, so training
reads tables counted without the fold of the history's user (cross-fitting). One more table holds the items with the
most similar content vectors, so that items without events have neighbours too.

Axes: B history, N item, J co-occurrence window, F feature, V neighbour, X entry of a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from recsys.core.arrays import FloatArray, IntArray
from recsys.data.cooccurrence import cosine_cooccurrence, recent_votes
from recsys.data.events import EventLog

FLOOR = 0.02
"""The score of a sum of votes is log(1 + votes / FLOOR)."""
NEIGHBOURS = 50
"""Number of most similar items that an item keeps."""
SHARPNESS = 4
"""Similarity is the cosine to this power."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """How many last items of a history count with what decay, and at most how many events apart a pair may be."""

    last: int
    decay: float
    distance: int = 0


WINDOWS = (
    Window(distance=5, last=5, decay=0.7),
    Window(distance=20, last=20, decay=0.9),
    Window(distance=1, last=1, decay=1.0),
    Window(last=5, decay=0.7),
)
"""Pairs within 5, 20 and 1 events, and content similarity, where items have words or given vectors."""
PAIR_WINDOWS = tuple(window for window in WINDOWS if window.distance)


@dataclass(frozen=True, kw_only=True)
class CooccurrencePrior:
    """One table of cosines per window: of pair counts, and of content vectors.

    Shape:
        tables: for each window sparse (items, items), float32.
    """

    tables: tuple[csr_array, ...]

    @classmethod
    def of(cls, log: EventLog, likeness: csr_array | None = None) -> "CooccurrencePrior":
        """Count a training log, and add a table of likeness where there is one (see :func:`likeness_table`)."""
        pairs = tuple(cosine_cooccurrence(log, window.distance) for window in PAIR_WINDOWS)
        return cls(tables=pairs if likeness is None else (*pairs, likeness))

    @property
    def likeness(self) -> csr_array | None:
        """The table of likeness, or None."""
        return self.tables[-1] if len(self.tables) == len(WINDOWS) else None

    def scores(self, histories: Sequence[IntArray]) -> list[csr_array]:
        """Return the scores of items after histories, one sparse (histories, items) matrix per window.

        Args:
            histories: items of each history, oldest first; may be empty.
        """
        scores = []
        # a prior without likeness has one table fewer, and one without anything has none
        for table_NN, window in zip(self.tables, WINDOWS, strict=False):
            voters_BN = recent_votes(histories, last=window.last, decay=window.decay, num_items=table_NN.shape[0])
            votes_BN = voters_BN @ table_NN
            votes_BN.data = np.log1p(votes_BN.data / FLOOR).astype(np.float32)
            scores.append(votes_BN)
        return scores

    def scores_of(self, items: IntArray) -> list[tuple[IntArray, FloatArray]]:
        """Return what :meth:`scores` returns for one history, to the bit, as items and their scores in each window.

        A sparse product of one row costs its set-up several times over; this adds the voters' rows one by one.

        Args:
            items: of the history, oldest first; may be empty.
        """
        found = []
        for table_NN, window in zip(self.tables, WINDOWS, strict=False):
            votes_N = np.zeros(table_NN.shape[0], np.float32)
            for age, item in enumerate(items[-window.last :][::-1].tolist()):
                row = slice(table_NN.indptr[item], table_NN.indptr[item + 1])
                votes_N[table_NN.indices[row]] += np.float32(window.decay**age) * table_NN.data[row]
            voted_X = np.flatnonzero(votes_N)
            found.append((voted_X, np.log1p(votes_N[voted_X] / FLOOR).astype(np.float32)))
        return found


def entries(scores_BN: csr_array, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where a sparse matrix's entries lie in the flattened dense one, and their values."""
    rows_X = np.repeat(np.arange(scores_BN.shape[0]), np.diff(scores_BN.indptr))
    place_X = rows_X * scores_BN.shape[1] + scores_BN.indices
    return torch.from_numpy(place_X).to(device), torch.from_numpy(scores_BN.data).to(device)


def likeness_table(vectors_NF: FloatArray) -> csr_array:
    """Return each item's nearest neighbours by cosine to the power :data:`SHARPNESS`, sparse (items, items).

    Shape:
        vectors_NF: (items, features); zero rows have no neighbours.
    """
    unit_NF = np.array(vectors_NF, np.float32, order="C")
    faiss.normalize_L2(unit_NF)
    index = faiss.IndexFlatIP(unit_NF.shape[1])
    index.add(unit_NF)
    cosine_NV, item_NV = index.search(unit_NF, min(NEIGHBOURS + 1, len(unit_NF)))
    rows_X = np.repeat(np.arange(len(unit_NF)), item_NV.shape[1])
    kept_X = (cosine_NV.ravel() > 0) & (item_NV.ravel() != rows_X)
    values_X = cosine_NV.ravel()[kept_X] ** SHARPNESS
    shape = (len(unit_NF), len(unit_NF))
    table_NN = coo_array((values_X, (rows_X[kept_X], item_NV.ravel()[kept_X])), shape=shape).tocsr()
    table_NN.sort_indices()
    return table_NN


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Some users' histories, and the prior of all others."""

    log: EventLog
    prior: CooccurrencePrior


def cross_fit(log: EventLog, folds: int, rng: np.random.Generator, likeness: csr_array | None = None) -> list[Fold]:
    """Return random folds of users, each with a prior counted without its own pairs; empty folds are left out."""
    fold_U = rng.integers(0, folds, log.num_users)
    found = []
    for fold in range(folds):
        inside_U = fold_U == fold
        own = log.first(np.where(inside_U, log.lengths_U, 0))
        if len(own.items_E):
            others = log.first(np.where(inside_U, 0, log.lengths_U))
            found.append(Fold(log=own, prior=CooccurrencePrior.of(others, likeness)))
    return found
