"""Partial paths that the token decoder is trained on: known codes, allowed codes, and target distributions.

Axes: R training row (a path), P path of a group of rows, C candidate item that remains on a path, M codebook, K code,
N item.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recsys.codes.validity import Candidates, ValidityIndex, offsets_of
from recsys.core.arrays import BoolArray, IntArray
from recsys.model.shortlist import Shortlist


@dataclass(frozen=True, kw_only=True)
class PartialPaths:
    """A batch of partial paths in random orders, with the codes that may follow.

    Shape:
        codes_RM: (rows, codebooks) the target item's codes.
        partial_RM: (rows, codebooks) the known ones, -1 where a codebook is free.
        allowed_RMK: (rows, codebooks, codes) the codes that some compatible item has.
        groups: rows of one depth, with the items that remain compatible; at depth 0 all do.
    """

    codes_RM: IntArray
    partial_RM: IntArray
    allowed_RMK: BoolArray
    groups: tuple[tuple[IntArray, Candidates], ...]

    def within(self, shortlist: Shortlist) -> "PartialPaths":
        """Return the same paths whose remaining items are those of a shortlist, as places in it."""
        return replace(self, groups=tuple((at, _within(candidates, shortlist)) for at, candidates in self.groups))


def _within(candidates: Candidates, shortlist: Shortlist) -> Candidates:
    if candidates.at_root:
        return candidates
    place_C = shortlist.places(items_of(candidates, shortlist.items_X.device)).cpu().numpy()
    path_C = np.repeat(np.arange(len(candidates.sizes_P)), candidates.sizes_P)[place_C >= 0]
    sizes_P = np.bincount(path_C, minlength=len(candidates.sizes_P)).astype(np.int64)
    return Candidates(offsets_P1=offsets_of(sizes_P), items_C=place_C[place_C >= 0], sizes_P=sizes_P)


def draw_partial_paths(
    index: ValidityIndex, codes_RM: IntArray, depths: tuple[float, ...], rng: np.random.Generator
) -> PartialPaths:
    """Choose for each row how many and which of its item's codes are already known, and mask what may follow."""
    count, codebooks = codes_RM.shape
    depths = depths[:codebooks]
    depth_R = rng.choice(len(depths), size=count, p=np.array(depths) / sum(depths))
    order_RM = np.argsort(rng.random((count, codebooks)), axis=1)
    partial_RM = np.full_like(codes_RM, -1)
    allowed_RMK = np.empty((count, codebooks, index.codebook_size), dtype=np.bool_)
    groups = []
    for depth in range(len(depths)):
        at = np.flatnonzero(depth_R == depth)
        candidates = index.start(len(at))
        for step in range(depth):
            book = order_RM[at, step]
            code = codes_RM[at, book]
            partial_RM[at, book] = code
            candidates = index.choose(candidates, np.arange(len(at)), book, code)
        allowed_RMK[at] = index.allowed(candidates)
        groups.append((at, candidates))
    return PartialPaths(codes_RM=codes_RM, partial_RM=partial_RM, allowed_RMK=allowed_RMK, groups=tuple(groups))


def true_targets(paths: PartialPaths) -> Tensor:
    """Return the target item's own codes as distributions, shape (rows, codebooks, codes)."""
    targets_RMK = torch.zeros(paths.allowed_RMK.shape)
    return targets_RMK.scatter_(2, torch.from_numpy(paths.codes_RM)[..., None], 1.0)


def implied_targets(paths: PartialPaths, prob_RN: Tensor, codes_MN: Tensor) -> Tensor:
    """Return the distribution of the next code of each path under item probabilities, shape (rows, codebooks, codes).

    Probabilities of the items that remain are summed over those that share a code: the exact conditional of every free
    codebook, whatever the order of choices.

    Shape:
        prob_RN: (rows, items) probabilities.
        codes_MN: (codebooks, items).
    """
    implied_RMK = torch.zeros(paths.allowed_RMK.shape, device=prob_RN.device)
    for at, candidates in paths.groups:
        rows = torch.from_numpy(at).to(prob_RN.device)
        if not len(at):
            continue
        if candidates.at_root:
            implied_RMK[rows] = sum_by_code(prob_RN[rows], codes_MN, implied_RMK.shape[2])
        else:
            prob_C = prob_RN[rows[path_of(candidates, rows.device)], items_of(candidates, rows.device)]
            implied_RMK[rows] = sum_remaining(candidates, prob_C, codes_MN, implied_RMK.shape[2])
    return implied_RMK / implied_RMK.sum(-1, keepdim=True).clamp(min=1e-12)


def sum_by_code(prob_RN: Tensor, codes_MN: Tensor, codes: int) -> Tensor:
    """Return the probability of all items with each code, (rows, codebooks, codes)."""
    prob_NR = prob_RN.T.contiguous()  # whole rows are added at once this way
    sums = [
        torch.zeros(codes, len(prob_RN), device=prob_RN.device).index_add(0, code_N, prob_NR).T for code_N in codes_MN
    ]
    return torch.stack(sums, dim=1)


def sum_remaining(candidates: Candidates, prob_C: Tensor, codes_MN: Tensor, codes: int) -> Tensor:
    """Return the probability of a path's remaining items with each code, below the root, (paths, codebooks, codes).

    Shape:
        prob_C: (candidates,) the probability of each remaining item of each path.
    """
    item_C, path_C = items_of(candidates, prob_C.device), path_of(candidates, prob_C.device)
    paths, books = len(candidates.sizes_P), len(codes_MN)
    book_M = torch.arange(books, device=prob_C.device)[:, None]
    place_MC = (path_C * books + book_M) * codes + codes_MN[:, item_C]
    sums = torch.zeros(paths * books * codes, device=prob_C.device)
    return sums.index_add(0, place_MC.flatten(), prob_C.repeat(books)).view(paths, books, codes)


def items_of(candidates: Candidates, device: torch.device) -> Tensor:
    """Return the remaining items of all paths, one path after another, (candidates,)."""
    return torch.from_numpy(candidates.items_C).to(device)


def path_of(candidates: Candidates, device: torch.device) -> Tensor:
    """Return the path that each remaining item belongs to, (candidates,)."""
    return torch.from_numpy(np.repeat(np.arange(len(candidates.sizes_P)), candidates.sizes_P)).to(device)
