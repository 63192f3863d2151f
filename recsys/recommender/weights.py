"""How much each source of evidence counts: coordinate ascent of NDCG@10 on validation.

Every source is computed once. Of its scores the best items of each user are kept, and an item that is among the best of
no source is taken to be below the target; so one mixture is evaluated in milliseconds, on all validation users.

Axes: U user, B batch of users, Z candidate item of a user, X source, N item. Local: V factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from recsys.contracts import ItemScores
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.ranking import MISS, ndcg_at
from recsys.core.telemetry import track
from recsys.data.splits import Questions
from recsys.recommender.evidence import mixed_scores, weighted_sum
from recsys.sequence.validation import seen_items

BATCH_SIZE = 256
DEPTH = 10
KEPT = 100
"""How many of a user's best items are kept of each source: ten times the depth that counts."""
_NONE = np.float32(-1e30)
"""The score of a candidate that is no item: below all others in every mixture."""


@dataclass(frozen=True, kw_only=True)
class ChosenWeights:
    """Weights of sources, and the NDCG@10 that they reach, seen items removed."""

    weights: dict[str, float]
    ndcg: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationScores:
    """The sources' scores of each validation user's target and of the items that can outrank it.

    Shape:
        score_XUZ: (sources, users, candidates), a user's target first.
        found_U: (users,) False where the user has the target already, so that it is never found.
    """

    names: tuple[str, ...]
    score_XUZ: FloatArray
    found_U: BoolArray

    @classmethod
    def of(cls, sources: Mapping[str, ItemScores], queries: Questions, *, kept: int = KEPT) -> "ValidationScores":
        """Ask every source about all users, and keep its best items of each, seen ones removed."""
        queries = queries.by_length()
        parts: list[tuple[FloatArray, BoolArray]] = []
        starts = range(0, len(queries.targets_U), BATCH_SIZE)
        for start in track(starts, what="scoring by each source", total=len(starts)):
            batch = queries.take(np.arange(start, min(start + BATCH_SIZE, len(queries.targets_U))))
            parts.append(_candidates([source(batch.histories) for source in sources.values()], batch, kept))
        widest = max((score_XBZ.shape[2] for score_XBZ, _ in parts), default=1)
        shape = (len(sources), len(queries.targets_U), widest)
        score_XUZ, begin = np.full(shape, _NONE, np.float32), 0
        for score_XBZ, found_B in parts:
            score_XUZ[:, begin : begin + len(found_B), : score_XBZ.shape[2]] = score_XBZ
            begin += len(found_B)
        found_U = np.concatenate([np.empty(0, np.bool_), *(found_B for _, found_B in parts)])
        return cls(names=tuple(sources), score_XUZ=score_XUZ, found_U=found_U)

    def ranks(self, weights: Mapping[str, float]) -> IntArray:
        """Return each user's rank of the target in a mixture, ties ranked against it, users in order of their lengths.

        Sources that are not named count 0.
        """
        rank_U = np.empty(len(self.found_U), np.int64)
        for start in range(0, len(rank_U), 2048):
            rows = slice(start, start + 2048)
            mixed_BZ = weighted_sum(dict(zip(self.names, self.score_XUZ[:, rows], strict=True)), weights)
            rank_U[rows] = (mixed_BZ >= mixed_BZ[:, :1]).sum(axis=1)
        return np.where(self.found_U, rank_U, MISS)

    def ndcg(self, weights: Mapping[str, float]) -> float:
        """Return NDCG@10 of a mixture, ties ranked against it; sources that are not named count 0."""
        return float(ndcg_at(self.ranks(weights), DEPTH).sum()) / max(1, len(self.found_U))


def _candidates(scores: Sequence[FloatArray], queries: Questions, kept: int) -> tuple[FloatArray, BoolArray]:
    """Return a batch's scores of each target and of the union of the sources' best other items, each once."""
    rows_B, targets_B = np.arange(len(queries.targets_U)), queries.targets_U
    seen = seen_items(queries.histories)
    barred_BN = np.zeros(scores[0].shape, np.bool_)
    barred_BN[seen] = True
    found_B = ~barred_BN[rows_B, targets_B]
    barred_BN[rows_B, targets_B] = True
    best_BZ = np.concatenate([_best(scores_BN, barred_BN, kept) for scores_BN in scores], axis=1)
    best_BZ.sort(axis=1)
    barred_BZ = np.take_along_axis(barred_BN, best_BZ, axis=1)
    barred_BZ[:, 1:] |= best_BZ[:, 1:] == best_BZ[:, :-1]
    item_BZ = np.concatenate([targets_B[:, None], best_BZ], axis=1)
    barred_BZ = np.concatenate([np.zeros((len(rows_B), 1), np.bool_), barred_BZ], axis=1)
    parts = [np.where(barred_BZ, _NONE, np.take_along_axis(scores_BN, item_BZ, axis=1)) for scores_BN in scores]
    return np.stack(parts).astype(np.float32), found_B


def _best(scores_BN: FloatArray, barred_BN: BoolArray, kept: int) -> IntArray:
    """Return each row's best items that are not barred; where fewer are left, barred ones fill the row."""
    kept = min(kept, scores_BN.shape[1])
    open_BN = np.where(barred_BN, -np.inf, scores_BN)
    return np.argpartition(open_BN, -kept, axis=1)[:, -kept:]


def choose_weights(scored: ValidationScores, names: Sequence[str] | None = None, *, steps: int = 20) -> ChosenWeights:
    """Return the weights with the best NDCG@10 that coordinate ascent finds; they sum to one in multiples of 1/steps.

    It begins at the best of all single sources and of equal shares, and moves weight from one source to another as long
    as that gains: first a quarter at a time, then half as much, down to ``1 / steps``.

    Args:
        scored: the sources' scores.
        names: the sources that may have weight; by default all.
        steps: how fine weights are.
    """
    names = list(scored.names if names is None else names)
    known: dict[tuple[int, ...], float] = {}

    def figure(share_X: IntArray) -> float:
        key = tuple(share_X.tolist())
        if key not in known:
            known[key] = scored.ndcg({name: share / steps for name, share in zip(names, key, strict=True)})
        return known[key]

    share_X = max(_starts(len(names), steps), key=figure)
    amount = max(1, steps // 4)
    while amount:
        better_X = max(_transfers(share_X, amount), key=figure, default=share_X)
        if figure(better_X) > figure(share_X):
            share_X = better_X
        else:
            amount //= 2
    weights = {name: share / steps for name, share in zip(names, share_X.tolist(), strict=True)}
    return ChosenWeights(weights=weights, ndcg=figure(share_X))


def _starts(sources: int, steps: int) -> list[IntArray]:
    """Return all weight on each source in turn, and equal shares, the rest of the division to the first ones."""
    equal_X = np.full(sources, steps // sources)
    equal_X[: steps % sources] += 1
    return [*(steps * np.eye(sources, dtype=np.int64)), equal_X]


def _transfers(share_X: IntArray, amount: int) -> list[IntArray]:
    """Return the weights after each move of an amount from one source to another."""
    found = []
    for giver, taker in np.argwhere(~np.eye(len(share_X), dtype=np.bool_)).tolist():
        moved = min(amount, int(share_X[giver]))
        if moved:
            share_new_X = share_X.copy()
            share_new_X[giver] -= moved
            share_new_X[taker] += moved
            found.append(share_new_X)
    return found


FACTORS = tuple(round(0.5 + 0.05 * step, 2) for step in range(31))
"""By how much a mixture may be sharpened: from half to double its log-probabilities."""


def sharpness(sources: Mapping[str, ItemScores], weights: Mapping[str, float], queries: Questions) -> float:
    """Return the factor of weights under which what came next is likeliest among the items that a user lacks.

    A weighted mean of log-probabilities is flatter than its parts. The factor changes path probabilities, no ranking.
    Where every user has what came next, all factors are equal, and it is 1.
    """
    queries, scores = queries.by_length(), mixed_scores(sources, weights)
    total_V = np.zeros(len(FACTORS))
    for start in range(0, len(queries.targets_U), BATCH_SIZE):
        batch = queries.take(np.arange(start, min(start + BATCH_SIZE, len(queries.targets_U))))
        scores_BN = scores(batch.histories).astype(np.float64)
        scores_BN[seen_items(batch.histories)] = -np.inf
        own_B = scores_BN[np.arange(len(batch.targets_U)), batch.targets_U]
        open_B = np.isfinite(own_B)
        for place, factor in enumerate(FACTORS):
            total_V[place] += (factor * own_B[open_B] - logsumexp(factor * scores_BN[open_B], axis=1)).sum()
    return FACTORS[int(total_V.argmax())] if total_V.any() else 1.0
