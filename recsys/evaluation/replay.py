"""Temporal replay: events asked in time order, each from what its user did before the event's batch.

Axes: E event of the log, H asked event, F figure, X group of events (a slice, a period).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from recsys.contracts import History, Recommender, requests_for
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.config import Config
from recsys.core.errors import DataError
from recsys.core.ranking import ndcg_at
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from recsys.data.events import EventLog
from recsys.evaluation.metrics import ranks_of_targets, recall_at
from recsys.evaluation.replay_log import ReplayLog, unanswerable
from recsys.evaluation.replay_results import PairedRow, PeriodRow, Replay, ReplayCost, ReplayRow
from recsys.evaluation.resampling import Resampled, resample
from recsys.evaluation.results import Estimate
from recsys.evaluation.slices import Asked, slices

HONEST = "Nothing was learned or chosen from events at or after the cut. "
FLATTERING = (
    "A recommender trained on leave-one-out splits may have seen what other users did after the cut, which flatters "
    "it; only data.split = 'time' gives figures free of that. "
)
"""Beauty, co-occurrence, recall@10: .065 trained leave-one-out against .036 fitted before the cut; were trained events
asked too, it would be .277 against .060."""
COMMON = (
    "Histories hold only events before the event's batch. Items of the history are removed from the ranking: a repeat "
    "of one counts as a miss, and so does an item that the catalogue lacks. "
)
STRANGERS = "No asked event has a history: these are figures of recommendations to strangers. "


class ReplayConfig(Config):
    """How a log is replayed."""

    n: int = Field(default=10, ge=1)
    """Cut-off of the metrics."""

    max_events: int | None = 20_000
    """Ask only a seeded sample of so many events; None asks all."""

    periods: int = Field(default=12, ge=1)
    """Into how many periods the asked time is divided, at most one per batch."""

    batch_size: int = Field(default=256, ge=1)
    """Requests per call of a recommender."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The events to ask, in time order.

    Shape:
        events_H, users_H: (asked,) place in the log and user.
        begins_H, ends_H: (asked,) where the history begins and ends in the log: before the user's events of the batch.
        batch_H: (asked,) batch number, never decreasing.
        new_H: (asked,) True where the user has no event before asking began.
    """

    events_H: IntArray
    users_H: IntArray
    begins_H: IntArray
    ends_H: IntArray
    batch_H: IntArray
    new_H: BoolArray

    def __len__(self) -> int:
        """Return the number of events to ask."""
        return len(self.events_H)


def timeline(replayed: ReplayLog, *, max_events: int | None, seed: int) -> Timeline:
    """Return the asked events in time order, a seeded sample of ``max_events`` of them if there are more."""
    log, batch_E = replayed.log, replayed.batch_E
    users_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    opens_E = np.ones(len(batch_E), np.bool_)
    opens_E[1:] = (np.diff(batch_E) != 0) | (np.diff(users_E) != 0)
    starts_E = np.maximum.accumulate(np.where(opens_E, np.arange(len(batch_E)), 0))
    events_H = np.flatnonzero(replayed.asked_E)
    if max_events is not None and len(events_H) > max_events:
        events_H = np.sort(rng_for(seed, "replay-events").choice(events_H, max_events, replace=False))
    events_H = events_H[np.argsort(log.timestamps_E[events_H], kind="stable")]
    users_H = users_E[events_H]
    begins_H = log.offsets_U1[users_H]
    return Timeline(
        events_H=events_H,
        users_H=users_H,
        begins_H=begins_H,
        ends_H=starts_E[events_H],
        batch_H=batch_E[events_H],
        new_H=batch_E[begins_H] >= replayed.start,
    )


def check_no_future(line: Timeline, replayed: ReplayLog) -> None:
    """Raise unless every history ends before its event's batch and, with a global cut, training before all of them.

    Raises:
        DataError: says how many events would be asked with knowledge of their own time or later.
    """
    ends_H = line.ends_H - 1
    some_H = line.ends_H > line.begins_H
    late_H = some_H & (replayed.batch_E[ends_H] >= line.batch_H)
    if late_H.any():
        raise DataError(
            f"histories must end before what is asked, got {int(late_H.sum())} of {len(line)} that reach into it; "
            "replay a log sorted by user and time"
        )
    if replayed.trained_until is None:
        return
    times_H = replayed.log.timestamps_E[line.events_H]
    if (leaked := int((times_H < replayed.trained_until).sum())) > 0:
        raise DataError(
            f"training must end before what is asked, got training events up to {replayed.trained_until} and {leaked} "
            "asked events before that; ask later events or train on earlier ones"
        )


def replay(
    recommenders: Sequence[Recommender],
    replayed: ReplayLog,
    *,
    training: EventLog,
    config: ReplayConfig,
    categories_N: Sequence[str | None] | None = None,
    seed: int,
) -> Replay:
    """Ask every recommender the held-out events in time order; recommenders are asked, never updated.

    Args:
        recommenders: who is evaluated; the last one is compared with each other on the same events.
        replayed: the log in the run's numbers.
        training: what was learned from; decides the slices of items and transitions.
        config: how to replay.
        categories_N: the general category of each item; None splits by none.
        seed: root of the sample's and the bootstrap's randomness.

    Raises:
        DataError: the log lies in one batch, asks nothing, or would be asked with knowledge of the future.
    """
    if reason := unanswerable(replayed):
        raise DataError(reason)
    line = timeline(replayed, max_events=config.max_events, seed=seed)
    check_no_future(line, replayed)
    asked = _asked(line, replayed.log)
    in_slice = slices(asked, training=training, categories_N=categories_N)
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
    asked_for = [recommender.name for recommender in recommenders]
    strangers = "" if (asked.lengths_H > 0).any() else STRANGERS
    return Replay(
        rows=_rows(means, asked_for, list(in_slice), names),
        note=((FLATTERING if replayed.trained_until is None else HONEST) + COMMON + strangers).strip(),
        events={name: int(in_slice_H.sum()) for name, in_slice_H in in_slice.items()},
        split=replayed.split,
        over_time=_over_time(means, asked_for, periods, replayed.log.timestamps_E[line.events_H], names),
        paired=_paired(means, asked_for, list(in_slice), names),
        costs=tuple(cost for _, cost in answered),
        counts={
            **replayed.counts,
            "asked": len(line),
            "sampled out": int(replayed.asked_E.sum()) - len(line),
            "asked for unknown items": int((asked.targets_H >= training.num_items).sum()),
        },
    )


def histories(log: EventLog, line: Timeline, call: slice) -> list[History]:
    """Return the histories of a run of asked events; items that the catalogue lacks are left out."""
    found = []
    for begin, end in zip(line.begins_H[call].tolist(), line.ends_H[call].tolist(), strict=True):
        items, times = log.items_E[begin:end], log.timestamps_E[begin:end]
        if (items >= log.num_items).any():
            items, times = items[items < log.num_items], times[items < log.num_items]
        found.append(History(items=items, timestamps=times))
    return found


def _asked(line: Timeline, log: EventLog) -> Asked:
    last_H = np.where(line.ends_H > line.begins_H, log.items_E[line.ends_H - 1], -1)
    return Asked(
        users_H=line.users_H,
        targets_H=log.items_E[line.events_H],
        lengths_H=line.ends_H - line.begins_H,
        last_H=last_H,
        new_H=line.new_H,
    )


def _calls(total: int, size: int) -> Iterator[slice]:
    for first in range(0, total, size):
        yield slice(first, min(first + size, total))


def _ask(recommender: Recommender, log: EventLog, line: Timeline, config: ReplayConfig) -> tuple[IntArray, ReplayCost]:
    """Return the rank of every asked event's item, and what answering took; slates are not kept."""
    ranks: list[IntArray] = []
    took: list[float] = []
    calls = list(_calls(len(line), config.batch_size))
    for call in track(calls, what=f"replaying {recommender.name}", total=len(calls)):
        requests = requests_for(histories(log, line, call), n=config.n + 1)
        began = time.perf_counter()
        slates = recommender.recommend(requests)
        each = 1000 * (time.perf_counter() - began) / len(requests)
        took += [each] * len(requests)
        ranks.append(ranks_of_targets(slates, log.items_E[line.events_H[call]]))
    milliseconds: Any = getattr(recommender, "latencies_ms", None) or took
    cost = ReplayCost(
        recommender=recommender.name,
        requests=len(line),
        milliseconds=round(float(np.mean(milliseconds)), 3),
        milliseconds_p50=round(float(np.percentile(milliseconds, 50)), 3),
        milliseconds_p99=round(float(np.percentile(milliseconds, 99)), 3),
    )
    return np.concatenate(ranks), cost


def _periods(batch_H: IntArray, most: int) -> list[BoolArray]:
    """Return which asked events lie in each period; periods hold about equally many events and whole batches."""
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
            slice=group,
            difference=difference(row, other),
        )
        for other in range(ours)
        for row, group in enumerate(groups)
    )
