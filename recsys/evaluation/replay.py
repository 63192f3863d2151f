"""Temporal replay: target events in time order, each ranked from what its user did before the event's batch.

Axes: E event of the log, H target event, F figure, X group of events (a slice, a period).
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from recsys.contracts import Recommender, requests_for
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import DataError
from recsys.core.ranking import ndcg_at
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from recsys.data.events import EventLog
from recsys.evaluation.metrics import ranks_of_targets, recall_at
from recsys.evaluation.replay_log import ReplayLog, unanswerable
from recsys.evaluation.replay_results import PeriodRow, Replay, ReplayCost, ReplayRow
from recsys.evaluation.resampling import Resampled, resample
from recsys.evaluation.results import Estimate, PairedRow
from recsys.evaluation.slices import TargetEvents, slices
from recsys.evaluation.timeline import Timeline, check_no_future, distinct_requests, histories, timeline

NOTE_TIME_SPLIT = "Nothing was learned or chosen from events at or after the cut. "
NOTE_LEAVE_ONE_OUT = (
    "A recommender trained on leave-one-out splits may have seen what other users did after the cut, which flatters "
    "it; only data.split = 'time' gives figures free of that. "
)
"""Beauty, co-occurrence, recall@10: .065 trained leave-one-out against .036 fitted before the cut; were trained events
replayed too, it would be .277 against .060."""
NOTE_HISTORIES = (
    "Histories hold only events before the event's batch. Items of the history are removed from the ranking: a repeat "
    "of one counts as a miss, and so does an item that the catalogue lacks. "
)
NOTE_NO_HISTORIES = "No target event has a history: these are figures of recommendations without a history. "


class ReplayConfig(Config):
    """How a log is replayed."""

    n: int = Field(default=10, ge=1)
    """Cut-off of the metrics."""

    max_events: int | None = 20_000
    """Replay only a seeded sample of so many events; None replays all."""

    periods: int = Field(default=12, ge=1)
    """Into how many periods the time of the target events is divided, at most one per batch."""

    batch_size: int = Field(default=256, ge=1)
    """Requests per call of a recommender."""


def replay(
    recommenders: Sequence[Recommender],
    replayed: ReplayLog,
    *,
    training: EventLog,
    config: ReplayConfig,
    categories_N: Sequence[str | None] | None = None,
    seed: int,
) -> Replay:
    """Rank the held-out events by every recommender in time order; recommenders are never updated.

    Args:
        recommenders: who is evaluated; the last one is compared with each other on the same events.
        replayed: the log in the run's numbers.
        training: what was learned from; decides the slices of items and transitions.
        config: how to replay.
        categories_N: the general category of each item; None splits by none.
        seed: root of the sample's and the bootstrap's randomness.

    Raises:
        DataError: the log lies in one batch, has no target event, or histories or training reach into the future.
    """
    if reason := unanswerable(replayed):
        raise DataError(reason)
    line = timeline(replayed, max_events=config.max_events, seed=seed)
    check_no_future(line, replayed)
    events = _target_events(line, replayed.log)
    in_slice = slices(events, training=training, categories_N=categories_N)
    periods = _periods(line.batch_H, config.periods)
    names = (f"recall@{config.n}", f"ndcg@{config.n}")
    answered = [_ask(recommender, replayed.log, line, config) for recommender in recommenders]
    values_HF = np.stack(
        [
            figure_H
            for ranks_H, _ in answered
            for figure_H in (recall_at(ranks_H, config.n), ndcg_at(ranks_H, config.n))
        ],
        axis=1,
    )
    groups_XH = np.stack([*in_slice.values(), *periods])
    means = resample(values_HF, line.users_H, groups_XH, rng_for(seed, "replay"))
    names_of = [recommender.name for recommender in recommenders]
    training_note = NOTE_LEAVE_ONE_OUT if replayed.trained_until is None else NOTE_TIME_SPLIT
    history_note = "" if (events.lengths_H > 0).any() else NOTE_NO_HISTORIES
    return Replay(
        rows=_rows(means, names_of, list(in_slice), names),
        note=(training_note + NOTE_HISTORIES + history_note).strip(),
        events={name: int(in_slice_H.sum()) for name, in_slice_H in in_slice.items()},
        split=replayed.split,
        over_time=_over_time(means, names_of, periods, replayed.log.timestamps_E[line.events_H], names),
        paired=_paired(means, names_of, list(in_slice), names),
        costs=tuple(cost for _, cost in answered),
        counts={
            **replayed.counts,
            "asked": len(line),
            "sampled out": int(replayed.target_E.sum()) - len(line),
            "asked for unknown items": int((events.targets_H >= training.num_items).sum()),
        },
    )


def _target_events(line: Timeline, log: EventLog) -> TargetEvents:
    last_H = np.where(line.ends_H > line.begins_H, log.items_E[line.ends_H - 1], -1)
    return TargetEvents(
        users_H=line.users_H,
        targets_H=log.items_E[line.events_H],
        lengths_H=line.ends_H - line.begins_H,
        last_H=last_H,
        new_H=line.new_H,
    )


def _ask(recommender: Recommender, log: EventLog, line: Timeline, config: ReplayConfig) -> tuple[IntArray, ReplayCost]:
    """Return the rank of every target event's item, and what answering took; slates are not kept."""
    ranks_H = np.empty(len(line), np.int64)
    took: list[float] = []
    first_B, request_H = distinct_requests(line)
    by_request_H = np.argsort(request_H, kind="stable")
    starts = range(0, len(first_B), config.batch_size)
    edges = np.searchsorted(request_H[by_request_H], [*starts, len(first_B)])
    for call, start in enumerate(track(starts, what=f"replaying {recommender.name}", total=len(starts))):
        requests = requests_for(histories(log, line, first_B[start : start + config.batch_size]), n=config.n + 1)
        began = time.perf_counter()
        slates = recommender.recommend(requests)
        each = 1000 * (time.perf_counter() - began) / len(requests)
        took += [each] * len(requests)
        places = by_request_H[edges[call] : edges[call + 1]]
        answers = [slates[request - start] for request in request_H[places].tolist()]
        ranks_H[places] = ranks_of_targets(answers, log.items_E[line.events_H[places]])
    milliseconds: Any = getattr(recommender, "latencies_ms", None) or took
    cost = ReplayCost(
        recommender=recommender.name,
        requests=len(first_B),
        milliseconds=round(float(np.mean(milliseconds)), 3),
        milliseconds_p50=round(float(np.percentile(milliseconds, 50)), 3),
        milliseconds_p99=round(float(np.percentile(milliseconds, 99)), 3),
    )
    return ranks_H, cost


def _periods(batch_H: IntArray, most: int) -> list[BoolArray]:
    """Return which target events lie in each period; periods hold about equally many events and whole batches."""
    batches, counts = np.unique(batch_H, return_counts=True)
    place = ((np.cumsum(counts) - counts) * most // len(batch_H)).astype(np.int64)
    period_H = place[np.searchsorted(batches, batch_H)]
    return [period_H == period for period in np.unique(place)]


def _figures(means: Resampled, group: int, recommender: int, names: Sequence[str]) -> dict[str, Estimate]:
    width = len(names)
    return {name: means.estimate(group, recommender * width + place) for place, name in enumerate(names)}


def _rows(
    means: Resampled, recommenders: Sequence[str], groups: Sequence[str], names: Sequence[str]
) -> tuple[ReplayRow, ...]:
    return tuple(
        ReplayRow(recommender=recommender, slice=group, figures=_figures(means, row, column, names))
        for column, recommender in enumerate(recommenders)
        for row, group in enumerate(groups)
    )


def _over_time(
    means: Resampled, recommenders: Sequence[str], periods: Sequence[BoolArray], times_H: IntArray, names: Sequence[str]
) -> tuple[PeriodRow, ...]:
    first = len(means.means_XF) - len(periods)
    return tuple(
        PeriodRow(
            recommender=recommender,
            start=int(times_H[in_period_H].min()),
            end=int(times_H[in_period_H].max()),
            events=int(in_period_H.sum()),
            figures=_figures(means, first + place, column, names),
        )
        for column, recommender in enumerate(recommenders)
        for place, in_period_H in enumerate(periods)
    )


def _paired(
    means: Resampled, recommenders: Sequence[str], groups: Sequence[str], names: Sequence[str]
) -> tuple[PairedRow, ...]:
    width, ours = len(names), len(recommenders) - 1

    def difference(row: int, other: int) -> dict[str, Estimate]:
        return {
            name: means.difference(row, ours * width + place, other * width + place) for place, name in enumerate(names)
        }

    return tuple(
        PairedRow(
            recommender=recommenders[ours],
            compared_with=recommenders[other],
            group=group,
            difference=difference(row, other),
        )
        for other in range(ours)
        for row, group in enumerate(groups)
    )
