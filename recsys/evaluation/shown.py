"""Ranking of shown items: whether a recommender puts taken items above items that were passed over.

It needs impressions and no propensities, and compares only items that the logging policy chose to show.

Axes: V group of items shown to one user together, E row of the impressions, S place in a slate, X kind of users.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.contracts import History, Recommender, Request, Slate, empty_history
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from recsys.data import schema
from recsys.data.columns import codes_of
from recsys.data.events import EventLog
from recsys.data.splits import SECONDS_PER_DAY
from recsys.data.vocabulary import UNKNOWN, Vocabulary
from recsys.evaluation.replay_results import ReplayRow, ShownRanking
from recsys.evaluation.resampling import Resampled, resample
from recsys.evaluation.results import PairedRow
from recsys.evaluation.slices import ACTIVE_HISTORY, SHORT_HISTORY

FIGURES = ("auc", "first taken")
"""``auc``: the chance that a taken item ranks above a passed one, mean over groups. ``first taken``: how often the item
ranked first was taken."""
PER_CALL = 256
MOST_GROUPS = 20_000
"""A seeded sample of so many groups is ranked."""


@dataclass(frozen=True, kw_only=True)
class ShownGroup:
    """Items that one user saw together, each once, some taken and some passed over.

    ``user`` is the row of the user, ``UNKNOWN`` where the run lacks it; ``key`` is an id that differs between users.

    Shape:
        items_S: (shown,) catalogue indices. taken_S: (shown,) bool.
    """

    user: int
    key: int
    moment: int
    """Unix seconds of the first of them: what the user did before is the history."""
    items_S: IntArray
    taken_S: BoolArray


def shown_groups(
    impressions: pa.Table, items: Vocabulary, users: Vocabulary, *, since: int | None = None
) -> list[ShownGroup]:
    """Return what was shown together, where some of it was taken and some was not.

    Together is one request where requests show several items, else one user's day. Items that the catalogue lacks are
    left out. A reward above zero means taken.

    Args:
        impressions: in the data contract.
        items: the catalogue's items.
        users: the known users.
        since: unix seconds; earlier impressions are left out, because training saw what came of them.
    """
    times_E = impressions[schema.TIMESTAMP].to_numpy().astype(np.int64)
    request_E, user_E = codes_of(impressions[schema.REQUEST]), codes_of(impressions[schema.USER])
    single = len(np.unique(request_E)) == len(request_E)
    together_E = user_E * (times_E.max(initial=0) // SECONDS_PER_DAY + 1) + times_E // SECONDS_PER_DAY
    items_E = items.rows_of(impressions[schema.ITEM], schema.ITEM)
    kept_E = (items_E != UNKNOWN) & (times_E >= (times_E.min(initial=0) if since is None else since))
    if single:  # what nobody is named for cannot be put together
        kept_E &= pc.is_valid(impressions[schema.USER]).to_numpy().astype(np.bool_)
    rows_E = np.flatnonzero(kept_E)
    group_E = (together_E if single else request_E)[rows_E]
    rows_E = rows_E[np.argsort(group_E, kind="stable")]
    edges = np.flatnonzero(np.diff(np.sort(group_E))) + 1
    taken_E = impressions[schema.REWARD].to_numpy() > 0
    known_E = users.rows_of(impressions[schema.USER], schema.USER)
    found = []
    for part_E in np.split(rows_E, edges):
        items_S, place_E = np.unique(items_E[part_E], return_inverse=True)
        taken_S = np.bincount(place_E, weights=taken_E[part_E]) > 0
        if taken_S.any() and not taken_S.all():
            first = part_E[0]
            moment = int(times_E[part_E].min())
            found.append(
                ShownGroup(
                    user=int(known_E[first]), key=int(user_E[first]), moment=moment, items_S=items_S, taken_S=taken_S
                )
            )
    return sorted(found, key=lambda one: one.moment)


def rank_shown(
    recommenders: Sequence[Recommender], log: EventLog, groups: Sequence[ShownGroup], *, seed: int
) -> ShownRanking | None:
    """Ask every recommender to rank what was shown and nothing else; None where no group has both kinds of items.

    Intervals and differences come from resampled users. The last recommender is compared with each other.

    Args:
        recommenders: who ranks.
        log: events in the run's numbers; a history is what the user did before the group's first item.
        groups: what was shown together.
        seed: root of the sample's and the bootstrap's randomness.
    """
    if not groups:
        return None
    if len(groups) > MOST_GROUPS:
        drawn = np.sort(rng_for(seed, "shown groups").choice(len(groups), MOST_GROUPS, replace=False))
        groups = [groups[place] for place in drawn.tolist()]
    histories = [_history(log, group) for group in groups]
    values_VF = np.concatenate([_values(one, histories, groups, log.num_items) for one in recommenders], axis=1)
    lengths_V = np.array([len(history.items) for history in histories])
    kinds = _kinds(lengths_V)
    keys_V = np.array([group.key for group in groups])
    means = resample(values_VF, keys_V, np.stack(list(kinds.values())), rng_for(seed, "shown"))
    names = [one.name for one in recommenders]
    return ShownRanking(
        groups={name: int(of_kind_V.sum()) for name, of_kind_V in kinds.items()},
        items=int(sum(len(group.items_S) for group in groups)),
        rows=tuple(_rows(means, names, list(kinds))),
        paired=tuple(_paired(means, names, list(kinds))),
    )


def auc(scores_S: FloatArray, taken_S: BoolArray) -> float:
    """Return the share of pairs of a taken and a passed item that are in the right order; equal scores count half.

    Scores 3, 2, 1 with the first and the last taken: one of two pairs is right, .5.
    """
    taken, passed = scores_S[taken_S], scores_S[~taken_S]
    differences = taken[:, None] - passed[None, :]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


def _kinds(lengths_V: IntArray) -> dict[str, BoolArray]:
    kinds = {
        "all": np.ones(len(lengths_V), np.bool_),
        "without a history": lengths_V == 0,
        "short history": (lengths_V > 0) & (lengths_V < SHORT_HISTORY),
        "active users": lengths_V >= ACTIVE_HISTORY,
    }
    return {name: of_kind_V for name, of_kind_V in kinds.items() if of_kind_V.any()}


def _values(
    recommender: Recommender, histories: Sequence[History], groups: Sequence[ShownGroup], num_items: int
) -> FloatArray:
    """Return both figures of every group, shape (groups, 2)."""
    found: list[tuple[float, float]] = []
    starts = range(0, len(groups), PER_CALL)
    for start in track(starts, what=f"ranking what was shown: {recommender.name}", total=len(starts)):
        call = slice(start, start + PER_CALL)
        requests = [_request(*one, num_items) for one in zip(histories[call], groups[call], strict=True)]
        for group, slate in zip(groups[call], recommender.recommend(requests), strict=True):
            scores_S = _scores(slate, group.items_S)
            first_S = scores_S == scores_S.max()
            found.append((auc(scores_S, group.taken_S), float(group.taken_S[first_S].mean())))
    return np.array(found)


def _request(history: History, group: ShownGroup, num_items: int) -> Request:
    eligible_N = np.zeros(num_items, np.bool_)
    eligible_N[group.items_S] = True
    return Request(history=history, n=len(group.items_S), eligible_N=eligible_N, keep_seen=True)


def _scores(slate: Slate, items_S: IntArray) -> FloatArray:
    """Return the score of every shown item; those that the recommender leaves out are equal and last."""
    scores_S = np.full(len(items_S), -np.inf)
    shown = np.isin(slate.items, items_S)
    scores_S[np.searchsorted(items_S, slate.items[shown])] = slate.scores[shown]
    left_out_S = np.isinf(scores_S)
    scores_S[left_out_S] = (scores_S[~left_out_S].min() if not left_out_S.all() else 0.0) - 1.0
    return scores_S


def _history(log: EventLog, group: ShownGroup) -> History:
    if group.user == UNKNOWN:
        return empty_history()
    whole = log.history(group.user)
    before = int(np.searchsorted(whole.timestamps, group.moment))
    known = whole.items[:before] < log.num_items
    return History(items=whole.items[:before][known], timestamps=whole.timestamps[:before][known])


def _rows(means: Resampled, names: Sequence[str], kinds: Sequence[str]) -> Iterator[ReplayRow]:
    for column, name in enumerate(names):
        for row, kind in enumerate(kinds):
            figures = {figure: means.estimate(row, 2 * column + place) for place, figure in enumerate(FIGURES)}
            yield ReplayRow(recommender=name, slice=kind, figures=figures)


def _paired(means: Resampled, names: Sequence[str], kinds: Sequence[str]) -> Iterator[PairedRow]:
    ours = len(names) - 1
    for other in range(ours):
        for row, kind in enumerate(kinds):
            difference = {
                figure: means.difference(row, 2 * ours + place, 2 * other + place)
                for place, figure in enumerate(FIGURES)
            }
            yield PairedRow(recommender=names[ours], compared_with=names[other], group=kind, difference=difference)
