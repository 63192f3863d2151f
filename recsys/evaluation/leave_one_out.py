"""Leave-one-out with full ranking: every evaluated user's next item, and the means with intervals."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.contracts import Recommender, requests_for
from recsys.core.arrays import Float64Array, IntArray
from recsys.core.ranking import MISS, ndcg_at
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from recsys.data.splits import Questions, length_order
from recsys.evaluation.beyond import TrainingPart, cold_questions, diversity, popularity, rare_questions
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
    seconds: float
    """What answering all questions took."""


def figures_of(ranks_U: IntArray) -> dict[str, Float64Array]:
    """Return every metric's value per question, by the metric's name.

    Shape:
        ranks_U: (questions,); so has each array of the result.
    """
    figures: dict[str, Float64Array] = {}
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
    """Evaluate a recommender on all questions, ranking the whole catalogue (see :func:`evaluate_rows`)."""
    row = (recommender, keep_seen)
    return evaluate_rows([row], questions, num_items=num_items, batch_size=batch_size, seed=seed, training=training)[0]


def evaluate_rows(  # noqa: PLR0913 (the settings of one evaluation)
    rows: Sequence[tuple[Recommender, bool]],
    questions: Questions,
    *,
    num_items: int,
    batch_size: int = 256,
    seed: int,
    training: TrainingPart | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Evaluated]:
    """Evaluate several recommenders on all questions; each batch goes to all before the next one.

    So recommenders that share what they compute of a history need it for one batch at a time.

    Args:
        rows: who is evaluated, and whether items of the history stay in the ranking.
        questions: histories and the items that came next.
        num_items: size of the catalogue.
        batch_size: questions per call; those of like lengths share a batch, so that a batch pads little.
        seed: root of the bootstrap's randomness.
        training: what was learned from, to measure popularity, diversity and items that are new; none leaves them out.
        clock: what the seconds of each row are read from.
    """
    open_U = questions.lack_items(num_items)
    if not len(open_U) or not (open_U.any() or all(keep_seen for _, keep_seen in rows)):
        raise ValueError(
            "questions must hold at least one user who lacks an item, got none; use a log with users of three or more "
            "events"
        )
    order_U = length_order(questions.histories)
    answers = [_Answers.to(len(open_U)) for _ in rows]
    starts = range(0, len(order_U), batch_size)
    what = rows[0][0].name if len(rows) == 1 else f"{len(rows)} rows"
    for start in track(starts, what=f"evaluating {what}", total=len(starts)):
        places_B = order_U[start : start + batch_size]
        for (recommender, keep_seen), answer in zip(rows, answers, strict=True):
            rows_B = places_B if keep_seen else places_B[open_U[places_B]]
            answer.add(recommender, questions, places_B=rows_B, keep_seen=keep_seen, clock=clock)
    found = []
    for (recommender, keep_seen), answer in zip(rows, answers, strict=True):
        places_U = np.arange(len(open_U)) if keep_seen else np.flatnonzero(open_U)
        counted = questions if len(places_U) == len(open_U) else questions.take(places_U)
        shown, ranks_U = answer.shown(places_U), answer.ranks_U[places_U]
        row = EvaluationRow(
            recommender=recommender.name,
            seen="kept" if keep_seen else "removed",
            accuracy=_accuracy(ranks_U, seed),
            coverage=coverage(shown, num_items=num_items),
            beyond=None if training is None else _beyond(shown, counted, ranks_U, training),
        )
        found.append(Evaluated(row=row, ranks_U=ranks_U, seconds=answer.seconds))
    return found


@dataclass(kw_only=True)
class _Answers:
    """What one row's slates show and where they rank the targets; an item of -1 fills up a shorter slate.

    Shape:
        items_US: (users, slate). ranks_U: (users,).
    """

    items_US: NDArray[np.int32]
    ranks_U: IntArray
    seconds: float = 0.0

    @classmethod
    def to(cls, users: int) -> "_Answers":
        """Return room for the answers to so many users."""
        return cls(items_US=np.full((users, DEEPEST), -1, np.int32), ranks_U=np.full(users, MISS))

    def add(
        self,
        recommender: Recommender,
        questions: Questions,
        *,
        places_B: IntArray,
        keep_seen: bool,
        clock: Callable[[], float],
    ) -> None:
        """Keep a recommender's answers for some users."""
        if not len(places_B):
            return
        histories = [questions.histories[place] for place in places_B.tolist()]
        requests = requests_for(histories, n=DEEPEST + 1, keep_seen=keep_seen)
        began = clock()
        slates = recommender.recommend(requests)
        self.seconds += clock() - began
        self.ranks_U[places_B] = ranks_of_targets(slates, questions.targets_U[places_B])
        for place, slate in zip(places_B.tolist(), slates, strict=True):
            items_S = slate.items[:DEEPEST]
            self.items_US[place, : len(items_S)] = items_S

    def shown(self, places_U: IntArray) -> list[IntArray]:
        """Return the items that some users were shown."""
        return [items_S[items_S >= 0].astype(np.int64) for items_S in self.items_US[places_U]]


def _accuracy(ranks_U: IntArray, seed: int) -> dict[str, Estimate]:
    """Return the mean of every metric with its interval."""
    figures = figures_of(ranks_U)
    values_UF = np.stack(list(figures.values()), axis=1)
    low_F, high_F = bootstrap_intervals(values_UF, np.arange(len(ranks_U)), rng_for(seed, "leave-one-out"))
    return {
        name: Estimate(value=float(value_U.mean()), low=float(low_F[f]), high=float(high_F[f]))
        for f, (name, value_U) in enumerate(figures.items())
    }


def _beyond(shown: list[IntArray], questions: Questions, ranks_U: IntArray, training: TrainingPart) -> Beyond:
    """Return popularity, diversity, and recall where the answer is an item that training saw never or seldom."""
    cold, rare = (of(questions.targets_U, training) for of in (cold_questions, rare_questions))
    return Beyond(
        popularity=popularity(shown, training),
        diversity=diversity(shown, training),
        cold_users=float(len(cold)),
        cold_recall=_recall(ranks_U[cold]),
        rare_users=float(len(rare)),
        rare_recall=_recall(ranks_U[rare]),
    )


def _recall(ranks_U: IntArray) -> float:
    """Return Recall@10 on some questions, 0 where there are none."""
    return float(recall_at(ranks_U, DEEPEST).mean()) if len(ranks_U) else 0.0
