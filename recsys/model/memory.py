"""What other users' histories say outright: sparse item-to-item memories whose evidence joins the item head's logits.

A network of a few million weights forgets rare pairs; a table of pairs does not, and cannot generalise. The item head
adds both, and learns how much the memory counts. Because a history's own pairs are in a table counted over all users,
training reads tables counted without the fold that the history belongs to (cross-fitting). One more table holds the
items most alike by what is known of them beside behaviour, so that items nobody used yet have neighbours too.

Axes: B history, N item, K kernel, F feature, X entry of a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch
from scipy.sparse import coo_array
from torch import Tensor

from recsys.core.arrays import FloatArray, IntArray
from recsys.data.cooccurrence import cosine_cooccurrence, recent_votes
from recsys.data.events import EventLog

FLOOR = 0.02
"""Votes count as log(1 + votes / FLOOR): a hundred times the votes is not a hundred times the evidence."""
NEIGHBOURS = 50
"""Likest items that an item keeps."""
SHARPNESS = 4
"""Likeness counts by this power of the cosine: near twins far more than items of one shelf."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Which of a history's last items vote with what decay, and how far apart two events of a user make a pair."""

    last: int
    decay: float
    window: int = 0


KERNELS = (
    Kernel(window=5, last=5, decay=0.7),
    Kernel(window=20, last=20, decay=0.9),
    Kernel(window=1, last=1, decay=1.0),
    Kernel(last=5, decay=0.7),
)
"""Near, long and immediate company, and likeness, which is there only where items have words or given vectors."""
PAIR_KERNELS = tuple(kernel for kernel in KERNELS if kernel.window)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One table of cosines per kernel: of pair counts, and of what is known of items.

    Shape:
        tables: for each kernel sparse (items, items), float32.
    """

    tables: tuple[Any, ...]

    @classmethod
    def of(cls, log: EventLog, likeness: Any = None) -> "Memory":
        """Count a training log, and add a table of likeness where there is one (see :func:`likeness_table`)."""
        pairs = tuple(cosine_cooccurrence(log, kernel.window) for kernel in PAIR_KERNELS)
        return cls(tables=pairs if likeness is None else (*pairs, likeness))

    @property
    def likeness(self) -> Any:
        """The table of likeness, or None."""
        return self.tables[-1] if len(self.tables) == len(KERNELS) else None

    def evidence(self, histories: Sequence[IntArray]) -> list[Any]:
        """Return what each kernel says about every item, one sparse (histories, items) matrix per kernel.

        Args:
            histories: items of each history, oldest first; may be empty.
        """
        told = []
        # a memory without likeness has one table fewer, and one without anything has none
        for table_NN, kernel in zip(self.tables, KERNELS, strict=False):
            voters_BN = recent_votes(histories, last=kernel.last, decay=kernel.decay, num_items=table_NN.shape[0])
            votes_BN = voters_BN @ table_NN
            votes_BN.data = np.log1p(votes_BN.data / FLOOR).astype(np.float32)
            told.append(votes_BN)
        return told


def entries(evidence_BN: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where a sparse matrix's entries lie in the flattened dense one, and their values."""
    rows_X = np.repeat(np.arange(evidence_BN.shape[0]), np.diff(evidence_BN.indptr))
    place_X = rows_X * evidence_BN.shape[1] + evidence_BN.indices
    return torch.from_numpy(place_X).to(device), torch.from_numpy(evidence_BN.data).to(device)


def dense(evidence: Sequence[Any], rows: int, items: int) -> FloatArray:
    """Return sparse (rows, items) matrices, one per kernel, as one array (kernels, rows, items); there may be none."""
    told_KRN = np.zeros((len(evidence), rows, items), np.float32)
    for kernel, part_RN in enumerate(evidence):
        told_KRN[kernel] = part_RN.toarray()
    return told_KRN


def likeness_table(vectors_NF: FloatArray) -> Any:
    """Return each item's nearest neighbours by cosine to the power :data:`SHARPNESS`, sparse (items, items).

    Shape:
        vectors_NF: (items, features); zero rows have no neighbours.
    """
    unit_NF = np.array(vectors_NF, np.float32, order="C")
    faiss.normalize_L2(unit_NF)
    index = faiss.IndexFlatIP(unit_NF.shape[1])
    index.add(unit_NF)
    cosine_NK, item_NK = index.search(unit_NF, min(NEIGHBOURS + 1, len(unit_NF)))
    rows_X = np.repeat(np.arange(len(unit_NF)), item_NK.shape[1])
    kept_X = (cosine_NK.ravel() > 0) & (item_NK.ravel() != rows_X)
    values_X = cosine_NK.ravel()[kept_X] ** SHARPNESS
    shape = (len(unit_NF), len(unit_NF))
    table_NN = coo_array((values_X, (rows_X[kept_X], item_NK.ravel()[kept_X])), shape=shape).tocsr()
    table_NN.sort_indices()
    return table_NN


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Some users' histories, and the memory of all others."""

    log: EventLog
    memory: Memory


def cross_fit(log: EventLog, folds: int, rng: np.random.Generator, likeness: Any = None) -> list[Fold]:
    """Deal users out to folds, each with a memory that holds none of its own pairs; empty folds are left out."""
    fold_U = rng.integers(0, folds, log.num_users)
    found = []
    for fold in range(folds):
        inside_U = fold_U == fold
        own = log.first(np.where(inside_U, log.lengths_U, 0))
        if len(own.items_E):
            others = log.first(np.where(inside_U, 0, log.lengths_U))
            found.append(Fold(log=own, memory=Memory.of(others, likeness)))
    return found
