"""Leave-one-out with full ranking: ask every evaluated user's next item and report the means with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.contracts import History, Recommender, Slate, requests_for
from recsys.core.arrays import IntArray
from recsys.core.ranking import ndcg_at
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from recsys.data.splits import Questions, length_order
from recsys.evaluation.beyond import TrainingPart, cold_questions, diversity, popularity
from recsys.evaluation.intervals import bootstrap_intervals
from recsys.evaluation.metrics import coverage, ranks_of_targets, recall_at
from recsys.evaluation.results import Beyond, Estimate, EvaluationRow

CUTOFFS = (5, 10)
DEEPEST = max(CUTOFFS)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One recommender's row, and what paired tests between rows need.

    Shape:
        ranks_U: (users,) pessimistic rank of each target, 0 for a miss.
    """

    row: EvaluationRow
    ranks_U: IntArray


def figures_of(ranks_U: IntArray) -> dict[str, NDArray[np.float64]]:
    """Return every metric's value per question, by the metric's name.

    Shape:
        ranks_U: (questions,); so has each array of the result.
    """
    figures: dict[str, NDArray[np.float64]] = {}
    for k in CUTOFFS:
        figures |= {f"recall@{k}": recall_at(ranks_U, k), f"ndcg@{k}": ndcg_at(ranks_U, k)}
    return figures


def evaluate_recommender(  # noqa: PLR0913 (the settings of one evaluation)
    recommender: Recommender,
    questions: Questions,
    *,
    num_items: int,
    keep_seen: bool,
    batch_size: int = 256,
    seed: int,
    training: TrainingPart | None = None,
) -> Evaluated:
    """Evaluate a recommender on all questions, ranking the whole catalogue.

    Args:
        recommender: who is evaluated.
        questions: histories and the items that came next.
        num_items: size of the catalogue.
        keep_seen: whether items of the history stay in the ranking.
        batch_size: questions per call.
        seed: root of the bootstrap's randomness.
        training: what was learned from, to measure popularity, diversity and items that are new; none leaves them out.
    """
    if not keep_seen:
        questions = questions.with_new_items(num_items)
    if not len(questions.targets_U):
        raise ValueError(
            "questions must hold at least one user who lacks an item, got none; use a log with users of three or more "
            "events"
        )
    slates = _slates(recommender, questions.histories, keep_seen=keep_seen, batch_size=batch_size)
    ranks_U = ranks_of_targets(slates, questions.targets_U)
    figures = figures_of(ranks_U)
    values_UF = np.stack(list(figures.values()), axis=1)
    low_F, high_F = bootstrap_intervals(values_UF, np.arange(len(ranks_U)), rng_for(seed, "leave-one-out"))
    row = EvaluationRow(
        recommender=recommender.name,
        seen="kept" if keep_seen else "removed",
        accuracy={
            name: Estimate(value=float(value_U.mean()), low=float(low_F[f]), high=float(high_F[f]))
            for f, (name, value_U) in enumerate(figures.items())
        },
        coverage=coverage(slates, num_items=num_items, k=DEEPEST),
        beyond=None if training is None else _beyond(slates, questions, ranks_U, training),
    )
    return Evaluated(row=row, ranks_U=ranks_U)


def _slates(recommender: Recommender, histories: Sequence[History], *, keep_seen: bool, batch_size: int) -> list[Slate]:
    """Return a slate for each history; those of like lengths are asked together, so that a batch pads little."""
    order_U = length_order(histories)
    found: list[Slate] = []
    starts = range(0, len(histories), batch_size)
    for start in track(starts, what=f"evaluating {recommender.name}", total=len(starts)):
        batch = [histories[place] for place in order_U[start : start + batch_size].tolist()]
        found += recommender.recommend(requests_for(batch, n=DEEPEST + 1, keep_seen=keep_seen))
    place_U = np.empty_like(order_U)
    place_U[order_U] = np.arange(len(order_U))
    return [found[place] for place in place_U.tolist()]


def _beyond(slates: list[Slate], questions: Questions, ranks_U: IntArray, training: TrainingPart) -> Beyond:
    """Return popularity, diversity, and recall where the answer is an item that training never saw."""
    cold = cold_questions(questions.targets_U, training)
    return Beyond(
        popularity=popularity(slates, training, k=DEEPEST),
        diversity=diversity(slates, training, k=DEEPEST),
        cold_users=float(len(cold)),
        cold_recall=float(recall_at(ranks_U[cold], DEEPEST).mean()) if len(cold) else 0.0,
    )
