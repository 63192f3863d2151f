"""Owns decoding: from histories and a step scorer to slates, all rows and paths of a batch at once.

Axes: B batch, P path, M codebook, K code, N item, L live path, E expansion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, Path, Slate, StepScorer, StepScores
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import DecodingError
from recsys.decoding.corp import js_divergence, prune
from recsys.decoding.crss import Order, choose_codebook
from recsys.decoding.evidence import (
    Cut,
    Entries,
    Reached,
    above_worst,
    cut_paths,
    fill_up,
    item_paths,
    merge,
    rank,
    reach,
)
from recsys.decoding.guidance import guided
from recsys.decoding.paths import Beam, Expansions, deduplicate, join_beams, rank_in_row, root_beam, top_per_row
from recsys.decoding.retrace import retrace

_LOWEST_LOG_PROB = np.float32(-1e30)


class DecoderConfig(Config):
    """How paths are searched and how they and the item head make a score."""

    num_paths: PositiveInt = 32
    """Number of paths per history, finished ones included."""
    finish_below: PositiveInt = 32
    """A path stops when at most this many items are left."""
    min_steps: PositiveInt = 2
    """Number of steps before a path may stop early, unless one item is left."""
    order: Order = "crss"
    """Whether the most confident codebook is decided next (crss), or the first free one (fixed)."""
    corp: bool = True
    """Whether paths whose category distribution jumps are pruned."""
    theta: NonNegativeFloat | None = None
    """Largest JS divergence (base 2) between neighbouring steps of a consistent path; None prunes nothing."""
    guidance: float = Field(default=0.8, ge=0, le=1)
    """How much a step listens to the item head: 0 not at all, 1 the exact conditionals of its belief alone."""
    overdraw: PositiveInt = 2
    """Size of the pool of expansions, in multiples of the free paths, from which pruned paths are replaced."""
    path_weight: NonNegativeFloat = 0.1
    """Weight of the path evidence beside the item head's log-probability."""
    codes_per_path: PositiveInt = 16
    """Number of best codes by which a path is expanded; the first step takes as many as fill the pool."""
    item_head: bool = True
    """Whether the item head scores items; without it the path evidence does alone."""
    ranked: Literal["reached", "catalogue"] = "catalogue"
    """Which items the item head ranks: those that paths reach, or all, where reached ones have a bonus of evidence."""


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

    def __init__(
        self, scorer: StepScorer, context: Any, index: ValidityIndex, head_BN: FloatArray, config: DecoderConfig
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
        """Score the next step of paths, by the token heads and, as far as the config says, by the item head."""
        scores = self.scorer.score_steps(self.context, beam.row_P, beam.codes_PM)
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

    def _grow(self, live: Beam, expansions: Expansions, *, step: int) -> _Attempt:
        """Grow paths, see which are finished, and score the others for the next step."""
        beam = live.grow(expansions, self.index, step=step)
        sizes_P = beam.candidates.sizes_P
        done_P = sizes_P == 1
        if step + 1 >= self.config.min_steps:
            done_P |= sizes_P <= self.config.finish_below
        if step + 1 == self.index.num_codebooks:
            done_P[:] = True
        jump_P = np.zeros(len(beam), np.float32)
        on_L = np.flatnonzero(~done_P)
        if not len(on_L):
            none_LMK = np.empty((0, self.index.num_codebooks, self.index.codebook_size), np.float32)
            return _Attempt(beam=beam, done_P=done_P, logits_LMK=none_LMK, jump_P=jump_P)
        scores = self.score(beam.take(on_L))
        if self.theta is not None:
            jump_P[on_L] = js_divergence(beam.category_PQ[on_L], scores.category_PQ)
            _require_numbers(jump_P, "category probabilities")
        category_PQ = beam.category_PQ.copy()
        category_PQ[on_L] = scores.category_PQ
        return _Attempt(
            beam=beam.with_category(category_PQ), done_P=done_P, logits_LMK=scores.logits_PMK, jump_P=jump_P
        )


def _join_attempts(first: _Attempt, second: _Attempt) -> _Attempt:
    """Return both attempts' paths with rows ascending, so that ties never depend on other rows."""
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


def _require_numbers(values: FloatArray, what: str) -> None:
    """Refuse NaN and plus infinity."""
    if np.isnan(values).any() or np.isposinf(values).any():
        raise DecodingError(f"{what} must be numbers, got NaN or infinity; check the scorer (a diverged model?)")


def decode(  # noqa: PLR0913 (the one entry of the package: what to ask, and how)
    scorer: StepScorer,
    index: ValidityIndex,
    histories: Sequence[History],
    *,
    n: int,
    config: DecoderConfig,
    eligible_BN: BoolArray | None = None,
    trace: bool = True,
) -> list[Slate]:
    """Return one slate per history with ``min(n, eligible items)`` distinct eligible items.

    The item head ranks all eligible items, and what live paths reach has a bonus of path evidence; or, by the config,
    only reached items are ranked, and the head's best follow where they are too few. Every item comes with a path.
    ``trace=False`` leaves out all paths, which saves time.

    Shape:
        eligible_BN: (histories, items), True means the item may be recommended; None allows all.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}; ask for one item or more")
    eligible_B = index.start(len(histories), eligible_BN).sizes_P
    row_P = np.flatnonzero(eligible_B)
    if not len(row_P):
        return [Slate(items=np.empty(0, np.int64), scores=np.empty(0, np.float32)) for _ in histories]
    context = scorer.encode(histories)
    head_BN = scorer.score_items(context)
    _require_numbers(head_BN, "item log-probabilities")
    head_BN = np.maximum(head_BN, _LOWEST_LOG_PROB)
    search = _Search(scorer, context, index, head_BN, config)
    eligible_PN = None if eligible_BN is None else eligible_BN[row_P]
    beam = search.run(row_P, eligible_PN, rows=len(histories))
    reached = reach(beam, head_BN if config.item_head else None)
    score_G = reached.evidence_G
    if config.item_head:
        bonus_G = config.path_weight * above_worst(reached, score_G, rows=len(histories))
        score_G = head_BN[reached.row_G, reached.item_G] + bonus_G
    ranking = rank(reached, score_G.astype(np.float32), n=n, rows=len(histories))
    everything = config.item_head and config.ranked == "catalogue"
    entries = []
    for row, wanted in enumerate(np.minimum(eligible_B, n).tolist()):
        found = ranking.of_row(row, reached)
        eligible_N = None if eligible_BN is None else eligible_BN[row]
        if everything:
            entries.append(merge(found, head_BN[row], reached.items_of_row(row), eligible_N, n=wanted))
        else:
            entries.append(fill_up(found, head_BN[row], eligible_N, n=wanted))
    if not trace:
        return [Slate(items=entry.item_S, scores=entry.score_S) for entry in entries]
    return _with_paths(entries, reached, beam, search)


def _with_paths(entries: list[Entries], reached: Reached, beam: Beam, search: _Search) -> list[Slate]:
    """Return slates with the paths to each item, retraced where no searched path reached it, and the cut paths."""
    group_S = np.concatenate([entry.group_S for entry in entries])
    row_S = np.repeat(np.arange(len(entries)), [len(entry.group_S) for entry in entries])
    item_S = np.concatenate([entry.item_S for entry in entries])
    paths: list[tuple[Path, ...]] = [()] * len(group_S)
    found_X = np.flatnonzero(group_S >= 0)
    for at, own in zip(found_X.tolist(), item_paths(reached, beam, group_S[found_X]), strict=True):
        paths[at] = own
    missed_X = np.flatnonzero(group_S < 0)
    told = retrace(
        lambda live: search.score(live).logits_PMK,
        search.index,
        (row_S[missed_X], item_S[missed_X]),
        finish_below=search.config.finish_below,
        min_steps=search.config.min_steps,
    )
    for at, path in zip(missed_X.tolist(), told, strict=True):
        paths[at] = (path,)
    pruned = cut_paths(search.cuts, rows=len(entries))
    stops = np.searchsorted(row_S, np.arange(len(entries) + 1))
    return [
        Slate(items=entry.item_S, scores=entry.score_S, paths=tuple(paths[start:stop]), pruned=pruned[row])
        for row, (entry, start, stop) in enumerate(zip(entries, stops[:-1], stops[1:], strict=True))
    ]
