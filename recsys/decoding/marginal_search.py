"""Path search over a distribution of items: every conditional is a sum of item probabilities, exact in any order.

p(code | codes chosen so far) is the probability of the items that have all of them, over that of the items that have
the chosen ones. So all orders agree, and a path that names one item has that item's probability, whichever way it took.

Axes: B request, P path, M codebook, K code, N item, Q category, C candidate item of a path, X expansion.
"""

import numpy as np
from scipy.sparse import csr_array

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import BoolArray, Float64Array, FloatArray, IntArray
from recsys.core.divergence import js_divergence
from recsys.core.errors import DecodingError
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.corp import prune
from recsys.decoding.evidence import Cut, UnlikelyPaths
from recsys.decoding.item_probabilities import Categories, likely_beam, open_codebooks, paths_of
from recsys.decoding.paths import (
    Beam,
    Expansions,
    deduplicate,
    join_beams,
    rank_in_row,
    root_beam,
    top_per_row,
)


class MarginalSearch:
    """One batch's search for the most probable paths.

    The first codebook of a row is the one whose best ``num_paths`` codes hold the most probability; after that each
    path takes the codebook that best isolates its most probable item, which is the one where the least probability
    shares the item's code. Only codebooks that the config leaves open are taken. The most probable expansions of all
    paths of a row live on.

    With a threshold, CORP checks at every step, that of finished paths included, how far the category distribution
    jumped. A path that jumped too far is taken back by one step, its token is barred there, and its parent's next best
    token is tried once; where too few consistent paths are left, the least inconsistent ones stay.
    """

    def __init__(
        self,
        index: ValidityIndex,
        prob_BN: Float64Array,
        config: MarginalSearchConfig,
        *,
        categories: Categories | None = None,
    ) -> None:
        self.index, self.prob_BN, self.config = index, prob_BN, config
        self.categories = categories
        self.theta = config.theta if config.corp and categories is not None else None
        self.codes_NM = np.ascontiguousarray(index.codes_MN.T)
        self.open_M = open_codebooks(config, index.num_codebooks)
        self.max_steps = int(self.open_M.sum())
        self.cuts: list[Cut | UnlikelyPaths] = []
        self.jumps: list[FloatArray] = []
        """The jumps of all transitions that were compared with theta, or that would be."""

    def run(self, row_P: IntArray, eligible_PN: BoolArray | None) -> Beam:
        """Return the finished paths of the rows, at most ``num_paths`` each.

        Shape:
            row_P: (rows with an eligible item,); eligible_PN: one line each.
        """
        rows = len(self.prob_BN)
        live = root_beam(row_P, self.index.start(len(row_P), eligible_PN), num_codebooks=self.index.num_codebooks)
        if self.categories is not None:
            live = live.with_category(self._category_at_root(row_P))
        slots_B, held_B = paths_of(self.prob_BN, self.config), np.zeros(rows)
        finished: list[Beam] = []
        for step in range(self.max_steps):
            pool = self._at_root(live) if step == 0 else self._expand(live)
            wanted_B = slots_B
            if self.config.enough < 1:
                wanted_B = np.minimum(slots_B, self._enough(live, pool, held_B))
            grown = self._advance(live, pool, wanted_B, step=step)
            done_P = self._is_done(grown, step=step)
            done = grown.take(np.flatnonzero(done_P))
            finished.append(done)
            slots_B = slots_B - np.bincount(done.row_P, minlength=rows)
            held_B = held_B + np.bincount(done.row_P, weights=np.exp(done.log_prob_P), minlength=rows)
            live = grown.take(np.flatnonzero(~done_P))
            if not len(live):
                break
        beam, cuts = likely_beam(join_beams(finished), self.config)
        self.cuts += cuts
        return beam

    def _enough(self, live: Beam, pool: Expansions, held_B: Float64Array) -> IntArray:
        """Return how many expansions of each row, best first, hold enough probability beside its finished paths."""
        order_X = np.lexsort((-pool.log_prob_X, live.row_P[pool.parent_X]))
        row_X, mass_X = live.row_P[pool.parent_X][order_X], np.exp(pool.log_prob_X[order_X])
        sum_X = np.cumsum(mass_X)
        before_X = sum_X - mass_X
        before_X = before_X - before_X[np.searchsorted(row_X, row_X)] + held_B[row_X]
        wanted_X = (before_X < self.config.enough) | (rank_in_row(row_X) == 0)
        return np.bincount(row_X[wanted_X], minlength=len(held_B))

    def _is_done(self, beam: Beam, *, step: int) -> BoolArray:
        sizes_P = beam.candidates.sizes_P
        done_P = sizes_P == 1
        if step + 1 >= self.config.min_steps:
            done_P |= sizes_P <= self.config.finish_below
        if step + 1 == self.max_steps:
            done_P[:] = True
        return done_P

    def _at_root(self, live: Beam) -> Expansions:
        """Return the codes of each row's first codebook, with their exact probabilities."""
        shape = (self.index.num_codebooks, self.index.codebook_size)
        mass_PMK = self._token_mass(live.row_P).reshape(len(live), *shape)
        width = min(self.config.num_paths, shape[1])
        best_PMW = -np.partition(-mass_PMK, width - 1, axis=2)[:, :, :width]
        book_P = first_least(np.where(self.open_M, -best_PMW.sum(axis=2), np.inf))
        mass_PK = mass_PMK[np.arange(len(live)), book_P]
        parent_X, code_X = np.nonzero(mass_PK > 0)
        return _expansions(live, parent_X, book_P[parent_X], code_X, mass_PK[parent_X, code_X])

    def _token_mass(self, row_P: IntArray) -> Float64Array:
        """Return the probability of all items with each code, (paths, codebooks x codes)."""
        index = self.index
        items, books = self.codes_NM.shape
        token_X = (self.codes_NM + np.arange(books) * index.codebook_size).ravel()
        shape = (items, books * index.codebook_size)
        owned_NT = csr_array((np.ones(items * books), token_X, np.arange(0, items * books + 1, books)), shape=shape)
        return np.asarray(self.prob_BN[row_P] @ owned_NT)

    def _expand(self, live: Beam) -> Expansions:
        """Return all expansions of paths by the codebook that isolates each one's most probable item."""
        sizes_P, items_C = live.candidates.sizes_P, live.candidates.items_C
        starts_P, path_C = live.candidates.offsets_P1[:-1], np.repeat(np.arange(len(live)), sizes_P)
        prob_C = self.prob_BN[live.row_P[path_C], items_C]
        is_best_C = prob_C == np.maximum.reduceat(prob_C, starts_P)[path_C]
        first_C = np.where(is_best_C, np.arange(len(path_C)), len(path_C))
        best_P = items_C[np.minimum.reduceat(first_C, starts_P)]
        same_CM = self.codes_NM[items_C] == self.codes_NM[best_P[path_C]]
        shared_PM = np.add.reduceat(np.where(same_CM, prob_C[:, None], 0.0), starts_P, axis=0)
        shared_PM[(live.codes_PM >= 0) | ~self.open_M] = np.inf
        book_P = first_least(shared_PM)
        code_C = self.codes_NM[items_C, book_P[path_C]]
        order_C = np.lexsort((code_C, path_C))
        path_C, code_C, prob_C = path_C[order_C], code_C[order_C], prob_C[order_C]
        opens_C = np.concatenate([[True], (path_C[1:] != path_C[:-1]) | (code_C[1:] != code_C[:-1])])
        start_X = np.flatnonzero(opens_C)
        parent_X = path_C[start_X]
        mass_X = np.add.reduceat(prob_C, start_X)
        return _expansions(live, parent_X, book_P[parent_X], code_C[start_X], mass_X)

    def _advance(self, live: Beam, pool: Expansions, slots_B: IntArray, *, step: int) -> Beam:
        """Grow the most probable expansions; with CORP, take back those that jump and try their parents' next ones."""
        best_X = top_per_row(live.row_P[pool.parent_X], pool.log_prob_X, slots_B)
        best_X = best_X[
            deduplicate(live.row_P[pool.parent_X[best_X]], live.codes_of(pool.take(best_X)), pool.log_prob_X[best_X])
        ]
        first = live.grow(pool.take(best_X), self.index, step=step)
        if self.categories is None:
            return first
        first, jump_P = self._with_jumps(first)
        self.jumps.append(jump_P)
        if self.theta is None or not (jump_P > self.theta).any():
            return first
        retried = self._next_best(pool, best_X, pool.parent_X[best_X][jump_P > self.theta])
        second, second_jump_P = self._with_jumps(live.grow(pool.take(retried), self.index, step=step))
        both, both_jump_P = join_beams([first, second]), np.concatenate([jump_P, second_jump_P])
        order_P = np.lexsort((-both.log_prob_P, both.row_P))
        both, both_jump_P = both.take(order_P), both_jump_P[order_P]
        wanted_B = np.bincount(first.row_P, minlength=len(slots_B))
        keep_P = prune(both.row_P, both_jump_P, theta=self.theta, wanted_B=wanted_B)
        cut_P = np.flatnonzero(~keep_P & (both_jump_P > self.theta))
        self.cuts.append(Cut(beam=both.take(cut_P), jump_P=both_jump_P[cut_P], step=step, theta=self.theta))
        return both.take(np.flatnonzero(keep_P))

    def _next_best(self, pool: Expansions, taken_X: IntArray, parent_X: IntArray) -> IntArray:
        """Return as many untried expansions of each parent as it is named, the most probable first."""
        named_P = np.bincount(parent_X, minlength=int(pool.parent_X.max()) + 1)
        untried_X = np.ones(len(pool.parent_X), np.bool_)
        untried_X[taken_X] = False
        left_X = np.flatnonzero(untried_X)
        order_X = left_X[np.lexsort((-pool.log_prob_X[left_X], pool.parent_X[left_X]))]
        parent_X = pool.parent_X[order_X]
        return order_X[rank_in_row(parent_X) < named_P[parent_X]]

    def _with_jumps(self, beam: Beam) -> tuple[Beam, FloatArray]:
        """Return paths with their new category distributions, and how far each has moved from its parent's."""
        after_PQ = self._category_of(beam)
        return beam.with_category(after_PQ), js_divergence(beam.category_PQ, after_PQ)

    def _category_at_root(self, row_P: IntArray) -> FloatArray:
        categories = self._known_categories()
        counts_PQ = np.zeros((len(row_P), categories.count))
        for path, row in enumerate(row_P.tolist()):
            counts_PQ[path] = np.bincount(categories.category_N, weights=self.prob_BN[row], minlength=categories.count)
        return counts_PQ.astype(np.float32)

    def _category_of(self, beam: Beam) -> FloatArray:
        """Return the exact distribution of the category given the history and the codes chosen, (paths, categories)."""
        categories, sizes_P = self._known_categories(), beam.candidates.sizes_P
        path_C = np.repeat(np.arange(len(beam)), sizes_P)
        prob_C = self.prob_BN[beam.row_P[path_C], beam.candidates.items_C]
        place_C = path_C * categories.count + categories.category_N[beam.candidates.items_C]
        mass_X = np.bincount(place_C, weights=prob_C, minlength=len(beam) * categories.count)
        mass_PQ = mass_X.reshape(len(beam), categories.count)
        return np.asarray(mass_PQ / np.maximum(mass_PQ.sum(axis=1, keepdims=True), 1e-300), np.float32)

    def _known_categories(self) -> Categories:
        if self.categories is None:
            raise DecodingError("jumps between categories need the items' categories, got none; pass categories")
        return self.categories


def first_least(value_PM: Float64Array) -> IntArray:
    """Return each row's first codebook within a millionth of the least value, so that rounding never decides.

    Shape:
        value_PM: (paths, codebooks); infinite where a codebook is taken. result: (paths,).
    """
    least_P1 = value_PM.min(axis=1, keepdims=True)
    return np.asarray((value_PM <= least_P1 + 1e-6 * np.abs(least_P1)).argmax(axis=1))


def _expansions(
    live: Beam, parent_X: IntArray, codebook_X: IntArray, code_X: IntArray, mass_X: Float64Array
) -> Expansions:
    """Return expansions whose paths have the given probabilities; steps follow as ratios to their parents'."""
    log_prob_X = np.log(np.maximum(mass_X, 1e-300))
    return Expansions(
        parent_X=parent_X,
        codebook_X=codebook_X,
        code_X=code_X,
        step_log_prob_X=np.minimum(log_prob_X - live.log_prob_P[parent_X], 0.0),
        log_prob_X=log_prob_X,
    )
