"""The validity index: which codes may follow a partial path, exact for any order of choices.

A path's state is the set of items that carry all its codes so far. The order in which they were chosen never enters.
Every operation works on all paths at once, with ragged lists of items.
Axes: B batch, P path, M codebook, K code, N item, C candidate (all paths' lists one after another), T token (M x K).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.codes.layout import CodeLayout
from recsys.core.arrays import BoolArray, IntArray


def offsets_of(sizes_P: IntArray) -> IntArray:
    """Return where each ragged list starts, and the end of the last, shape (lists + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes_P, dtype=np.int64)])


def _gather(starts_P: IntArray, sizes_P: IntArray) -> IntArray:
    """Return the positions of all lists one after another, shape (sum of sizes,)."""
    offsets_P1 = offsets_of(sizes_P)
    return np.repeat(starts_P - offsets_P1[:-1], sizes_P) + np.arange(offsets_P1[-1])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """The items that remain for each path.

    At the root the lists are not written out: ``items_C`` is empty, every item that ``root_PN`` allows remains
    (None: every item), and only ``sizes_P`` counts them.

    Shape:
        offsets_P1: (paths + 1,) start of each path's items in ``items_C``.
        items_C: (candidates,) catalogue indices, ascending inside a path.
        sizes_P: (paths,) number of items that remain.
        root_PN: (paths, items) eligible items, only at the root.
    """

    offsets_P1: IntArray
    items_C: IntArray
    sizes_P: IntArray
    at_root: bool = False
    root_PN: BoolArray | None = None

    def take(self, path_P: IntArray) -> "Candidates":
        """Return the lists of some paths, in the given order.

        Shape:
            path_P: (new paths,) indices of paths.
        """
        sizes_P = self.sizes_P[path_P]
        if self.at_root:
            root_PN = None if self.root_PN is None else self.root_PN[path_P]
            blank_P1 = np.zeros(len(path_P) + 1, np.int64)
            return Candidates(offsets_P1=blank_P1, items_C=self.items_C, sizes_P=sizes_P, at_root=True, root_PN=root_PN)
        at_C = _gather(self.offsets_P1[path_P], sizes_P)
        return Candidates(offsets_P1=offsets_of(sizes_P), items_C=self.items_C[at_C], sizes_P=sizes_P)


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Return the lists of several groups of paths below the root, one group after another."""
    if any(part.at_root for part in parts):
        raise ValueError("candidates must be below the root to be joined, got root rows; choose a code first")
    sizes_P = np.concatenate([part.sizes_P for part in parts])
    items_C = np.concatenate([part.items_C for part in parts])
    return Candidates(offsets_P1=offsets_of(sizes_P), items_C=items_C, sizes_P=sizes_P)


class ValidityIndex:
    """Posting lists of every (codebook, code) over a catalogue.

    Args:
        codes_NM: (items, codebooks) codes, from 0 to ``codebook_size`` - 1.
        codebook_size: number of codes of each codebook.
    """

    def __init__(self, codes_NM: IntArray, codebook_size: int) -> None:
        if codes_NM.ndim != 2 or (codes_NM.size and not 0 <= codes_NM.min() <= codes_NM.max() < codebook_size):
            raise ValueError(
                f"codes must be a table of numbers from 0 to {codebook_size - 1}, got shape {codes_NM.shape}; "
                "give the codes and the codebook size of one catalogue"
            )
        self.num_items, self.num_codebooks = codes_NM.shape
        self.codebook_size = codebook_size
        self.codes_MN = np.ascontiguousarray(codes_NM.T, dtype=np.int64)
        layout = CodeLayout(num_codebooks=self.num_codebooks, codebook_size=codebook_size)
        self._token_MN = self.codes_MN + layout.first_token_M[:, None]
        self._postings = np.argsort(self.codes_MN, axis=1, kind="stable").ravel()
        self._counts_T = np.bincount(self._token_MN.ravel(), minlength=layout.num_tokens)
        self._offsets_T1 = offsets_of(self._counts_T)

    def start(self, batch: int, eligible_BN: BoolArray | None = None) -> Candidates:
        """Return the root: one path per row, at which every eligible item remains.

        Shape:
            eligible_BN: (batch, items), None allows every item.
        """
        if eligible_BN is not None and eligible_BN.shape != (batch, self.num_items):
            raise ValueError(
                f"eligible must have the shape {(batch, self.num_items)}, got {eligible_BN.shape}; "
                "give one row per history and one column per item of the catalogue"
            )
        every_B = np.full(batch, self.num_items, np.int64)
        sizes_B = every_B if eligible_BN is None else np.count_nonzero(eligible_BN, axis=1).astype(np.int64)
        return Candidates(
            offsets_P1=np.zeros(batch + 1, np.int64),
            items_C=np.empty(0, np.int64),
            sizes_P=sizes_B,
            at_root=True,
            root_PN=eligible_BN,
        )

    def choose(self, candidates: Candidates, parent_P: IntArray, codebook_P: IntArray, code_P: IntArray) -> Candidates:
        """Return new paths: path p keeps the items of its parent that carry the chosen code.

        Shape:
            parent_P, codebook_P, code_P: (new paths,), the parent is an index into ``candidates``.
        """
        self._check(codebook_P, code_P)
        if candidates.at_root:
            token_P = codebook_P * self.codebook_size + code_P
            sizes_P = self._counts_T[token_P]
            items_C = self._postings[_gather(self._offsets_T1[token_P], sizes_P)]
            if candidates.root_PN is None:
                return Candidates(offsets_P1=offsets_of(sizes_P), items_C=items_C, sizes_P=sizes_P)
            kept_C = candidates.root_PN[np.repeat(parent_P, sizes_P), items_C]
        else:
            sizes_P = candidates.sizes_P[parent_P]
            items_C = candidates.items_C[_gather(candidates.offsets_P1[parent_P], sizes_P)]
            kept_C = self.codes_MN[np.repeat(codebook_P, sizes_P), items_C] == np.repeat(code_P, sizes_P)
        path_C = np.repeat(np.arange(len(parent_P)), sizes_P)[kept_C]
        left_P = np.bincount(path_C, minlength=len(parent_P)).astype(np.int64)
        return Candidates(offsets_P1=offsets_of(left_P), items_C=items_C[kept_C], sizes_P=left_P)

    def allowed(self, candidates: Candidates) -> BoolArray:
        """Return which codes some remaining item has, in free and in chosen codebooks alike.

        Shape:
            result: (paths, codebooks, codes); read-only and shared between paths at an unfiltered root.
        """
        paths = len(candidates.sizes_P)
        shape = (paths, self.num_codebooks, self.codebook_size)
        if candidates.at_root:
            return self._allowed_at_root(candidates.root_PN, shape)
        allowed = np.zeros(paths * self.num_codebooks * self.codebook_size, np.bool_)
        base_C = np.repeat(np.arange(paths) * len(self._counts_T), candidates.sizes_P)
        for token_N in self._token_MN:
            allowed[base_C + token_N[candidates.items_C]] = True
        return allowed.reshape(shape)

    def _allowed_at_root(self, eligible_BN: BoolArray | None, shape: tuple[int, int, int]) -> BoolArray:
        """Return the root's mask; the work grows with the items that are barred in some rows only."""
        if eligible_BN is None:
            return np.broadcast_to((self._counts_T > 0).reshape(1, *shape[1:]), shape)
        somewhere_N = eligible_BN.any(axis=0)
        counts_T = np.bincount(self._token_MN[:, somewhere_N].ravel(), minlength=len(self._counts_T))
        row_X, item_X = np.nonzero(~eligible_BN & somewhere_N)
        barred = np.zeros(shape[0] * len(counts_T), np.int64)
        for token_N in self._token_MN:
            barred += np.bincount(row_X * len(counts_T) + token_N[item_X], minlength=len(barred))
        return (barred.reshape(shape[0], -1) < counts_T).reshape(shape)

    def _check(self, codebook_P: IntArray, code_P: IntArray) -> None:
        for name, chosen_P, limit in (
            ("codebooks", codebook_P, self.num_codebooks),
            ("codes", code_P, self.codebook_size),
        ):
            if len(chosen_P) and not 0 <= chosen_P.min() <= chosen_P.max() < limit:
                raise ValueError(
                    f"chosen {name} must be from 0 to {limit - 1}, got {chosen_P.min()} to {chosen_P.max()}; "
                    "choose among the allowed codes"
                )
