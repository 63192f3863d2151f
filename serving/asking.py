"""From a request to a query of a release: whose history, and the plan of its slate."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.data.vocabulary import time_order
from serving.histories import KnownUser
from serving.items import ItemTable
from serving.plan import Plan, add_filter, add_rules, add_steering, start_plan
from serving.release import Release
from serving.rules import NamedRule, in_force
from serving.schemas.recommend import HistoryEvent, RankingRequest
from serving.settings import ServingConfig

_SHOWN_UNKNOWN = 20
_WHOLE = {None: None, "paths": False, "catalogue": True}


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """One request in terms of one release.

    ``unknown`` are ids of a given history that the release does not have.
    """

    release: Release
    user_id: str | None
    history: History
    plan: Plan
    unknown: Sequence[str]
    whole_catalogue: bool | None = None
    """Whether all items are ranked instead of what paths reach; None as the run says."""


@dataclass(frozen=True, kw_only=True)
class RequestContext:
    """The rules, settings and unix time that every request of a moment shares."""

    rules: Sequence[NamedRule]
    config: ServingConfig
    now: int


def question(
    release: Release,
    request: RankingRequest,
    known: KnownUser | None,
    context: RequestContext,
    *,
    n: int,
    reasons: bool = False,
) -> Question:
    """Return the question that a request asks of a release.

    Args:
        release: taken once for this request.
        request: who asks, under which conditions.
        known: what the store holds of the user; None without one.
        context: rules, settings and time.
        n: length of the slate.
        reasons: whether the plan keeps why items are barred.
    """
    items, config = release.items, context.config
    stored = () if known is None else known.past.events
    pairs = stored if request.history is None else given_events(request.history, context.now)
    history, unknown = history_of(items, pairs)
    plan = start_plan(items, n=n, now=context.now, reasons=reasons)
    plan.bar_rows("it is in the history", history.items)
    if known is not None:
        plan.bar_rows("the user has it", items.rows_seen(known.past))
    if request.exclude:
        plan.bar_rows("the request excludes it", items.indices_of(request.exclude))
    if request.filter is not None:
        add_filter(plan, items, request.filter)
    if request.steer is not None:
        add_steering(plan, release.facets, request.steer, config)
    if context.rules or request.rules is not None:
        add_rules(plan, items, in_force(context.rules, names=request.rules, surface=request.surface, now=context.now))
    return Question(
        release=release,
        user_id=request.user_id,
        history=history.last(config.max_history),
        plan=plan,
        unknown=unknown[:_SHOWN_UNKNOWN] if request.history is not None else (),
        whole_catalogue=_WHOLE[request.ranked or config.ranked],
    )


def history_of(items: ItemTable, pairs: Sequence[tuple[str, int]]) -> tuple[History, list[str]]:
    """Return the known ones among (item id, time) pairs, and the ids of the others."""
    rows: list[int] = []
    times: list[int] = []
    unknown: list[str] = []
    for item_id, at in pairs:
        row = items.row_of_text(item_id)
        if row is None:
            unknown.append(item_id)
        else:
            rows.append(row)
            times.append(at)
    return History(items=_integers(rows), timestamps=_integers(times)), unknown


def given_events(events: Sequence[HistoryEvent], now: int) -> list[tuple[str, int]]:
    """Return a given history as (item id, time), in the order of :func:`recsys.data.vocabulary.time_order`."""
    times_T, order_T = time_order([event.timestamp for event in events], now)
    times = times_T.tolist()
    return [(events[place].item_id, times[place]) for place in order_T.tolist()]


def this_moment() -> int:
    """Return unix seconds: the serving moment."""
    return int(time.time())


def _integers(values: Sequence[int]) -> IntArray:
    return np.asarray(values, dtype=np.int64)
