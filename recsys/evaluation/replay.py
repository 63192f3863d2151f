"""Temporal replay: the newest part of a log asked in time order, each event from what its user did before its batch.

Axes: U user, E event of the log, H held-out event, F figure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.contracts import History, Recommender, Slate, requests_for
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from recsys.data.events import EventLog
from recsys.evaluation.intervals import bootstrap_intervals
from recsys.evaluation.metrics import ndcg_at, ranks_of_targets, recall_at
from recsys.evaluation.replay_results import Replay, ReplayRow
from recsys.evaluation.results import Estimate

BatchBy = Literal["timestamp", "day"]

CUT_QUANTILE = 0.9
SHORT_HISTORY = 5
SECONDS_PER_DAY = 86_400
MOST_PER_CALL = 256

NOTE = (
    "Histories hold only events before the event's batch, and only events held out of training are asked; but a "
    "recommender trained on leave-one-out splits may have seen what other users did after the cut, which flatters it. "
    "Only a model fitted before the cut gives figures free of that. "
    "Items of the history are removed from the ranking: a repeat of one counts as a miss."
)
"""Beauty, co-occurrence, recall@10: .065 trained leave-one-out against .036 fitted before the cut; were trained events
asked too, it would be .277 against .060."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The events to ask, in time order.

    Shape:
        users_H, events_H, batch_H: (held-out events,) user, place in the log, and batch number, never decreasing.
        starts_H: (held-out events,) where the user's events of the same batch begin in the log; the history ends there.
        new_H: (held-out events,) True where the user has no event before the cut.
    """

    users_H: IntArray
    events_H: IntArray
    batch_H: IntArray
    starts_H: IntArray
    new_H: BoolArray

    def __len__(self) -> int:
        """Return the number of events to ask."""
        return len(self.events_H)


def hold_out(
    log: EventLog, *, batch_by: BatchBy, max_events: int | None, seed: int, askable_E: BoolArray | None = None
) -> HeldOut:
    """Return the askable events from the cut on, a seeded sample of ``max_events`` of them if there are more.

    The cut is the start of the batch in which the 0.9 quantile of the log's times lies, so no batch straddles it.
    """
    if not len(log.items_E):
        raise ValueError("a log to replay must hold at least one event, got none; give a log with events")
    batch_E = log.timestamps_E // (SECONDS_PER_DAY if batch_by == "day" else 1)
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    opens_E = np.ones(len(batch_E), np.bool_)
    opens_E[1:] = (np.diff(batch_E) != 0) | (np.diff(users_E) != 0)
    starts_E = np.maximum.accumulate(np.where(opens_E, np.arange(len(batch_E)), 0))
    cut = np.quantile(batch_E, CUT_QUANTILE, method="lower")
    events_H = np.flatnonzero((batch_E >= cut) & (True if askable_E is None else askable_E))
    if max_events is not None and len(events_H) > max_events:
        events_H = np.sort(rng_for(seed, "replay-events").choice(events_H, max_events, replace=False))
    events_H = events_H[np.argsort(log.timestamps_E[events_H], kind="stable")]
    users_H = users_E[events_H]
    return HeldOut(
        users_H=users_H,
        events_H=events_H,
        batch_H=batch_E[events_H],
        starts_H=starts_E[events_H],
        new_H=batch_E[log.offsets_U1[users_H]] >= cut,
    )


def replay(  # noqa: PLR0913 (whom to ask, what, and how)
    recommenders: Sequence[Recommender],
    log: EventLog,
    *,
    batch_by: BatchBy = "day",
    n: int = 10,
    max_events: int | None = 20_000,
    seed: int,
    askable_E: BoolArray | None = None,
) -> Replay:
    """Ask every recommender the held-out events in time order.

    Args:
        recommenders: who is evaluated; they are asked, never updated.
        log: all events of the run.
        batch_by: events of one UTC day, or of one exact timestamp, form a batch that cannot see itself.
        n: cut-off of the metrics.
        max_events: ask only a seeded sample of so many events; None asks all.
        seed: root of the sample's and the bootstrap's randomness.
        askable_E: (events,) True where an event may be asked, e.g. because training never saw it; None allows all.

    """
    held_out = hold_out(log, batch_by=batch_by, max_events=max_events, seed=seed, askable_E=askable_E)
    lengths_H = held_out.starts_H - log.offsets_U1[held_out.users_H]
    slices: dict[str, BoolArray] = {
        "all": np.ones(len(held_out), np.bool_),
        "new users": held_out.new_H,
        "short history": lengths_H < SHORT_HISTORY,
    }
    rows: list[ReplayRow] = []
    for recommender in recommenders:
        ranks_H = _ask(recommender, log, held_out, n=n)
        for name, in_slice_H in slices.items():
            if in_slice_H.any():
                figures = _figures(ranks_H[in_slice_H], held_out.users_H[in_slice_H], n=n, seed=seed)
                rows.append(ReplayRow(recommender=recommender.name, slice=name, figures=figures))
    events = {name: int(in_slice_H.sum()) for name, in_slice_H in slices.items()}
    return Replay(rows=tuple(rows), note=NOTE, events=events)


def _calls(held_out: HeldOut) -> Iterator[slice]:
    """Yield runs of held-out events that share a batch, at most MOST_PER_CALL long."""
    borders = [0, *(np.flatnonzero(np.diff(held_out.batch_H)) + 1).tolist(), len(held_out)]
    for start, stop in pairwise(borders):
        for first in range(start, stop, MOST_PER_CALL):
            yield slice(first, min(first + MOST_PER_CALL, stop))


def _ask(recommender: Recommender, log: EventLog, held_out: HeldOut, *, n: int) -> IntArray:
    slates: list[Slate] = []
    calls = list(_calls(held_out))
    begins_H = log.offsets_U1[held_out.users_H]
    for call in track(calls, what=f"replaying {recommender.name}", total=len(calls)):
        histories = [
            History(items=log.items_E[begin:end], timestamps=log.timestamps_E[begin:end])
            for begin, end in zip(begins_H[call], held_out.starts_H[call], strict=True)
        ]
        slates += recommender.recommend(requests_for(histories, n=n + 1))
    return ranks_of_targets(slates, log.items_E[held_out.events_H])


def _figures(ranks_H: IntArray, users_H: IntArray, *, n: int, seed: int) -> dict[str, Estimate]:
    figures: dict[str, NDArray[np.float64]] = {f"recall@{n}": recall_at(ranks_H, n), f"ndcg@{n}": ndcg_at(ranks_H, n)}
    values_HF = np.stack(list(figures.values()), axis=1)
    low_F, high_F = bootstrap_intervals(values_HF, users_H, rng_for(seed, "replay"))
    return {
        name: Estimate(value=float(values_HF[:, f].mean()), low=float(low_F[f]), high=float(high_F[f]))
        for f, name in enumerate(figures)
    }
