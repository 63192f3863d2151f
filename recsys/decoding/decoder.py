"""Owns decoding: from histories and a step scorer to slates, all rows and paths of a batch at once.

Axes: B batch, P path, M codebook, K code, N item, L live path, E expansion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, Slate, StepScorer
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import DecodingError
from recsys.decoding.corp import js_divergence, prune
from recsys.decoding.crss import Order, choose_codebook
from recsys.decoding.evidence import Cut, Ranking, Reached, cut_paths, fill_up, item_paths, rank, reach
from recsys.decoding.paths import Beam, Expansions, deduplicate, join_beams, rank_in_row, root_beam, top_per_row

_LOWEST_LOG_PROB = np.float32(-1e30)


class DecoderConfig(Config):
    """How paths are searched and how they and the item head make a score."""

    num_paths: PositiveInt = 32
    """Number of paths per history, finished ones included."""
    finish_below: PositiveInt = 4
    """A path stops when at most this many items are left."""
    min_steps: PositiveInt = 2
    """Number of steps before a path may stop early, unless one item is left."""
    order: Order = "crss"
    """Whether the most confident codebook is decided next (crss), or the first free one (fixed)."""
    corp: bool = True
    """Whether paths whose category distribution jumps are pruned."""
    theta: NonNegativeFloat | None = None
    """Largest JS divergence (base 2) between neighbouring steps of a consistent path; None prunes nothing."""
    overdraw: PositiveInt = 2
    """Size of the pool of expansions, in multiples of the free paths, from which pruned paths are replaced."""
    path_weight: NonNegativeFloat = 0.1
    """Weight of the path evidence beside the item head's log-probability."""
    codes_per_path: PositiveInt = 16
    """Number of best codes by which a path is expanded; the first step takes as many as fill the pool."""
    item_head: bool = True
    """Whether the item head scores items; without it the path evidence does alone."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Attempt:
    """Grown paths; those that go on are scored, and know how far their category distribution jumped.

    Shape:
        done_P: (paths,) whether a path is finished.
        logits_LMK: (paths that go on, codebooks, codes).
        jump_P: (paths,) JS divergence from the step before; 0 where finished paths are not scored any more.
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


class _Search:
    """One batch's beam search."""

    def __init__(self, scorer: StepScorer, context: Any, index: ValidityIndex, config: DecoderConfig) -> None:
        self.scorer, self.context, self.index, self.config = scorer, context, index, config
        self.theta = config.theta if config.corp else None
        self.cuts: list[Cut] = []

    def run(self, row_P: IntArray, eligible_PN: BoolArray | None, *, rows: int) -> Beam:
        """Return the finished paths of the rows, at most ``num_paths`` each.

        Shape:
            row_P: (rows with an eligible item,); eligible_PN: one line each.
        """
        free_PM = np.full((len(row_P), self.index.num_codebooks), -1, np.int64)
        scores = self.scorer.score_steps(self.context, row_P, free_PM)
        candidates = self.index.start(len(row_P), eligible_PN)
        live = root_beam(row_P, candidates, scores.category_PQ, num_codebooks=self.index.num_codebooks)
        logits_PMK = scores.logits_PMK
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
        parent_E, place_E = np.nonzero(np.isfinite(step_PW))
        step_E = step_PW[parent_E, place_E]
        pool = Expansions(
            parent_E=parent_E,
            codebook_E=codebook_P[parent_E],
            code_E=code_PW[parent_E, place_E],
            step_log_prob_E=step_E,
            log_prob_E=live.log_prob_P[parent_E] + step_E,
        )
        pool = pool.take(top_per_row(live.row_P[pool.parent_E], pool.log_prob_E, pool_B))
        return pool.take(deduplicate(live.row_P[pool.parent_E], live.codes_of(pool), pool.log_prob_E))

    def _advance(self, live: Beam, pool: Expansions, slots_B: IntArray, *, step: int) -> _Attempt:
        """Grow the best of the pool; with CORP, replace inconsistent paths by the next best, once."""
        row_E = live.row_P[pool.parent_E]
        rank_E = rank_in_row(row_E)
        first = self._grow(live, pool.take(rank_E < slots_B[row_E]), step=step)
        if self.theta is None or not (first.jump_P > self.theta).any():
            return first
        bad_B = np.bincount(first.beam.row_P[first.jump_P > self.theta], minlength=len(slots_B))
        spare_E = rank_E - slots_B[row_E]
        second = self._grow(live, pool.take((spare_E >= 0) & (spare_E < bad_B[row_E])), step=step)
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

    def _grow(self, beam: Beam, step: int) -> Beam:
        """Choose each path's next codebook, expand by its best codes, keep the best distinct paths of each request."""
        config = self.config
        scores = self.scorer.score_steps(self.context, beam.row_P, beam.codes_PM)
        if not np.isfinite(scores.logits_PMK).all():
            raise DecodingError("step scores must be finite, got NaN or infinity; retrain or roll back the model")
        alive_P = self._consistent(beam, scores.category_PQ, step)
        beam = replace(beam.take(alive_P), category_PQ=scores.category_PQ[alive_P])
        allowed_PMK = self.index.allowed(beam.candidates)
        log_probs_PMK = step_log_probs(scores.logits_PMK[alive_P], allowed_PMK)
        book_P = choose_codebook(log_probs_PMK, allowed_PMK, beam.codes_PM >= 0, order=config.order)
        log_probs_PK = log_probs_PMK[np.arange(len(beam)), book_P]
        parent_X, code_X = _best_codes(log_probs_PK, config.codes_per_path)
        gain_X = log_probs_PK[parent_X, code_X]
        score_X = beam.log_prob_P[parent_X] + gain_X
        width = config.num_paths * (config.overdraw if self._pruning else 1)
        best = best_per_row(beam.row_P[parent_X], score_X, 2 * width)
        parent_X, code_X, gain_X, score_X = parent_X[best], code_X[best], gain_X[best], score_X[best]
        codes_XM = _with_step(beam.codes_PM, parent_X, book_P, code_X)
        new = distinct(beam.row_P[parent_X], codes_XM, score_X)
        new = new[best_per_row(beam.row_P[parent_X[new]], score_X[new], width)]
        parent_X, code_X, gain_X = parent_X[new], code_X[new], gain_X[new]
        return replace(
            beam,
            row_P=beam.row_P[parent_X],
            codes_PM=codes_XM[new],
            step_PM=_with_step(beam.step_PM, parent_X, book_P, np.full(len(new), step)),
            confidence_PM=_with_step(beam.confidence_PM, parent_X, book_P, np.exp(gain_X)),
            log_prob_P=score_X[new],
            category_PQ=beam.category_PQ[parent_X],
            candidates=self.index.choose(beam.candidates, parent_X, book_P[parent_X], code_X),
        )

    @property
    def _pruning(self) -> bool:
        return self.config.corp and self.config.theta is not None

    def _consistent(self, beam: Beam, category_PQ: FloatArray, step: int) -> IntArray:
        """Return the places of paths whose latest step did not make the category jump (CORP), with spares moved up."""
        theta = self.config.theta
        if step == 0 or theta is None or not self._pruning:
            return np.arange(len(beam))
        jump_P = js_divergence(beam.category_PQ, category_PQ)
        keep_P = consistent_first(jump_P, beam.row_P, beam.log_prob_P, theta=theta, width=self.config.num_paths)
        for place in np.flatnonzero(~keep_P & (jump_P > theta)):
            cut = self.pruned.setdefault(int(beam.row_P[place]), [])
            if len(cut) < MAX_PRUNED:
                reason = f"the category jumped by {jump_P[place]:.3f} bits, more than {theta:.3f}"
                cut.append(beam.path(int(place), pruned=True, reason=reason))
        return np.flatnonzero(keep_P)


def _best_codes(log_probs_PK: FloatArray, count: int) -> tuple[IntArray, IntArray]:
    """Return (path, code) pairs of each path's best existing codes."""
    count = min(count, log_probs_PK.shape[1])
    code_PX = np.argpartition(-log_probs_PK, count - 1, axis=1)[:, :count]
    code_PX.sort(axis=1)
    exists_PX = np.take_along_axis(log_probs_PK, code_PX, axis=1) > BARRED / 2
    parent_X, place_X = np.nonzero(exists_PX)
    return parent_X, code_PX[parent_X, place_X]


def _with_step(table_PM: Any, parent_X: IntArray, book_P: IntArray, value_X: Any) -> Any:
    """Copy the parents' rows and write each new value into the column of the codebook chosen."""
    rows_XM = table_PM[parent_X].copy()
    rows_XM[np.arange(len(parent_X)), book_P[parent_X]] = value_X
    return rows_XM
