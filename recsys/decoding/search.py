"""The beam search over partial paths of any order, all rows of a batch at once.

Axes: B request, P path, M codebook, K code, N item, L live path, X expansion.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import StepScorer, StepScores
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.divergence import js_divergence
from recsys.core.errors import DecodingError
from recsys.decoding.config import SearchConfig
from recsys.decoding.corp import prune
from recsys.decoding.crss import choose_codebook
from recsys.decoding.evidence import Cut
from recsys.decoding.guidance import guided
from recsys.decoding.paths import Beam, Expansions, deduplicate, join_beams, rank_in_row, root_beam, top_per_row


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Attempt:
    """Grown paths; those that go on are scored, with the jump of their category distribution.

    Shape:
        done_P: (paths,) whether a path is finished.
        logits_LMK: (paths that go on, codebooks, codes).
        jump_P: (paths,) JS divergence from the step before; 0 where nothing is pruned.
    """

    beam: Beam
    done_P: BoolArray
    logits_LMK: FloatArray
    jump_P: FloatArray

    def keep(self, keep_P: BoolArray) -> "_Attempt":
        """Return the attempt with the marked paths only."""
        if keep_P.all():
            return self
        return _Attempt(
            beam=self.beam.take(np.flatnonzero(keep_P)),
            done_P=self.done_P[keep_P],
            logits_LMK=self.logits_LMK[keep_P[~self.done_P]],
            jump_P=self.jump_P[keep_P],
        )


class Search:
    """One batch's beam search."""

    def __init__(
        self, scorer: StepScorer, context: Any, index: ValidityIndex, head_BN: FloatArray | None, config: SearchConfig
    ) -> None:
        self.scorer, self.context, self.index, self.head_BN, self.config = scorer, context, index, head_BN, config
        self.theta = config.theta if config.corp else None
        self.cuts: list[Cut] = []

    def run(self, row_P: IntArray, eligible_PN: BoolArray | None, *, rows: int) -> Beam:
        """Return the finished paths of the rows, at most ``num_paths`` each.

        Shape:
            row_P: (rows with an eligible item,); eligible_PN: one line each.
        """
        root = root_beam(row_P, self.index.start(len(row_P), eligible_PN), num_codebooks=self.index.num_codebooks)
        scores = self.score(root)
        live, logits_PMK = root.with_category(scores.category_PQ), scores.logits_PMK
        slots_B = np.full(rows, self.config.num_paths)
        finished: list[Beam] = []
        for step in range(self.index.num_codebooks):
            pool = self._expand(live, logits_PMK, slots_B)
            attempt = self._advance(live, pool, slots_B, step=step)
            done = attempt.beam.take(np.flatnonzero(attempt.done_P))
            finished.append(done)
            slots_B = slots_B - np.bincount(done.row_P, minlength=rows)
            live, logits_PMK = attempt.beam.take(np.flatnonzero(~attempt.done_P)), attempt.logits_LMK
            if not len(live):
                break
        return join_beams(finished)

    def score(self, beam: Beam) -> StepScores:
        """Score the next step of paths, by the token heads and, by the config's weight, by the item scorer."""
        scores = self.scorer.score_steps(self.context, beam.row_P, beam.codes_PM)
        if self.head_BN is None or self.config.guidance == 0:
            return scores
        logits_PMK = guided(scores.logits_PMK, beam, self.index, self.head_BN, self.config.guidance)
        return StepScores(logits_PMK=logits_PMK, category_PQ=scores.category_PQ)

    def _expand(self, live: Beam, logits_PMK: FloatArray, slots_B: IntArray) -> Expansions:
        """Return the pool: the best expansions of each row, rows ascending, best first, no set of codes twice."""
        allowed_PMK = self.index.allowed(live.candidates)
        codebook_P, log_prob_PK = choose_codebook(logits_PMK, allowed_PMK, live.codes_PM >= 0, order=self.config.order)
        pool_B = slots_B * (1 if self.theta is None else self.config.overdraw)
        at_root = live.candidates.at_root
        width = max(self.config.codes_per_path, int(pool_B.max())) if at_root else self.config.codes_per_path
        if width < log_prob_PK.shape[1]:
            code_PW = np.argpartition(-log_prob_PK, width - 1, axis=1)[:, :width]
        else:
            code_PW = np.broadcast_to(np.arange(log_prob_PK.shape[1]), log_prob_PK.shape)
        step_PW = np.take_along_axis(log_prob_PK, code_PW, axis=1).astype(np.float64)
        parent_X, place_X = np.nonzero(np.isfinite(step_PW))
        step_X = step_PW[parent_X, place_X]
        pool = Expansions(
            parent_X=parent_X,
            codebook_X=codebook_P[parent_X],
            code_X=code_PW[parent_X, place_X],
            step_log_prob_X=step_X,
            log_prob_X=live.log_prob_P[parent_X] + step_X,
        )
        pool = pool.take(top_per_row(live.row_P[pool.parent_X], pool.log_prob_X, pool_B))
        return pool.take(deduplicate(live.row_P[pool.parent_X], live.codes_of(pool), pool.log_prob_X))

    def _advance(self, live: Beam, pool: Expansions, slots_B: IntArray, *, step: int) -> _Attempt:
        """Grow the best of the pool; with CORP, replace inconsistent paths by the next best, once."""
        row_X = live.row_P[pool.parent_X]
        rank_X = rank_in_row(row_X)
        first = self._grow(live, pool.take(rank_X < slots_B[row_X]), step=step)
        if self.theta is None or not (first.jump_P > self.theta).any():
            return first
        bad_B = np.bincount(first.beam.row_P[first.jump_P > self.theta], minlength=len(slots_B))
        spare_X = rank_X - slots_B[row_X]
        second = self._grow(live, pool.take((spare_X >= 0) & (spare_X < bad_B[row_X])), step=step)
        row_P = np.concatenate([first.beam.row_P, second.beam.row_P])
        keep_P = prune(
            row_P,
            np.concatenate([first.jump_P, second.jump_P]),
            theta=self.theta,
            wanted_B=np.bincount(first.beam.row_P, minlength=len(slots_B)),
        )
        keeps = (keep_P[: len(first.beam)], keep_P[len(first.beam) :])
        for attempt, kept_P in zip((first, second), keeps, strict=True):
            cut = np.flatnonzero(~kept_P)
            self.cuts.append(Cut(beam=attempt.beam.take(cut), jump_P=attempt.jump_P[cut], step=step, theta=self.theta))
        return _join_attempts(first.keep(keeps[0]), second.keep(keeps[1]))

    def _grow(self, live: Beam, expansions: Expansions, *, step: int) -> _Attempt:
        """Grow paths, mark the finished ones, and score the others for the next step."""
        beam = live.grow(expansions, self.index, step=step)
        sizes_P = beam.candidates.sizes_P
        done_P = sizes_P == 1
        if step + 1 >= self.config.min_steps:
            done_P |= sizes_P <= self.config.finish_below
        if step + 1 == self.index.num_codebooks:
            done_P[:] = True
        jump_P, category_PQ = np.zeros(len(beam), np.float32), beam.category_PQ.copy()
        on_L = np.flatnonzero(~done_P)
        # CORP checks the last step of a finished path as well
        scored_L = on_L if self.theta is None else np.arange(len(beam))
        if not len(scored_L):
            none_LMK = np.empty((0, self.index.num_codebooks, self.index.codebook_size), np.float32)
            return _Attempt(beam=beam, done_P=done_P, logits_LMK=none_LMK, jump_P=jump_P)
        scores = self.score(beam.take(scored_L))
        category_PQ[scored_L] = scores.category_PQ
        if self.theta is not None:
            jump_P = js_divergence(beam.category_PQ, category_PQ)
            require_numbers(jump_P, "category probabilities")
        logits_LMK = scores.logits_PMK if self.theta is None else scores.logits_PMK[on_L]
        return _Attempt(beam=beam.with_category(category_PQ), done_P=done_P, logits_LMK=logits_LMK, jump_P=jump_P)


def _join_attempts(first: _Attempt, second: _Attempt) -> _Attempt:
    """Return both attempts' paths with rows ascending, so that the order of ties does not depend on other rows."""
    beam = join_beams([first.beam, second.beam])
    done_P = np.concatenate([first.done_P, second.done_P])
    order_P = np.argsort(beam.row_P, kind="stable")
    place_P = np.cumsum(~done_P) - 1
    logits_LMK = np.concatenate([first.logits_LMK, second.logits_LMK])
    return _Attempt(
        beam=beam.take(order_P),
        done_P=done_P[order_P],
        logits_LMK=logits_LMK[place_P[order_P[~done_P[order_P]]]],
        jump_P=np.concatenate([first.jump_P, second.jump_P])[order_P],
    )


def require_numbers(values: FloatArray, what: str) -> None:
    """Refuse NaN and plus infinity."""
    if values.size and not values.max() < np.inf:  # a NaN is the largest of all, and not below infinity
        raise DecodingError(f"{what} must be numbers, got NaN or infinity; check the scorer (a diverged model?)")
