"""Ranking what was shown: groups, the chance of the right order by hand, histories before the group, a slow way."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import Request, Slate
from recsys.data.events import EventLog, build_log
from recsys.data.impressions import clean_impressions
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.replay_results import ShownRanking
from recsys.evaluation.shown import auc, rank_shown, shown_groups

DAY = 86_400
ITEMS, USERS = Vocabulary(list("abcde")), Vocabulary(["u", "v"])


class ByNumber:
    """Ranks eligible items by their number, the highest first; keeps what it was asked."""

    def __init__(self, name: str, *, sign: int = 1, least: int = 0) -> None:
        self.name, self.sign, self.least = name, sign, least
        self.asked: list[Request] = []

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        self.asked += requests
        slates = []
        for request in requests:
            assert request.eligible_N is not None
            items = np.flatnonzero(request.eligible_N)
            items = items[items >= self.least]
            items = items[np.argsort(-self.sign * items)]
            slates.append(Slate(items=items, scores=(self.sign * items).astype(np.float32)))
        return slates


def impressions(rows: Sequence[tuple[int, str | None, str, int, float]]) -> pa.Table:
    """Return impressions from (request, user, item, seconds, reward)."""
    request, user, item, at, reward = zip(*rows, strict=True)
    names = ("request_id", "user_id", "item_id", "position", "timestamp", "reward")
    columns = (request, user, item, [1] * len(rows), at, reward)
    return clean_impressions(pa.table(dict(zip(names, map(list, columns), strict=True))), "test")


def log() -> EventLog:
    """User u took a at time 5, b at time DAY + 1; user v nothing."""
    users, items, times = np.array([0, 0]), np.array([0, 1]), np.array([5, DAY + 1])
    return build_log(users, items, times, np.arange(2), num_users=2, num_items=5)


def test_groups_when_requests_show_one_item_then_a_users_day_is_together_and_each_item_counts_once() -> None:
    rows = [
        (0, "u", "c", DAY + 10, 0.0),
        (1, "u", "d", DAY + 20, 1.0),
        (2, "u", "c", DAY + 30, 2.0),  # the second time it was taken
        (3, "u", "e", DAY + 40, 0.0),
        (4, "u", "a", 2 * DAY, 0.0),  # the next day: nothing was taken
        (5, "w", "a", DAY, 0.0),
        (6, "w", "b", DAY + 1, 1.0),
        (7, "w", "never heard of", DAY + 2, 1.0),
        (8, None, "a", DAY, 1.0),  # nobody's
        (9, None, "b", DAY, 0.0),
    ]
    first, second = shown_groups(impressions(rows), ITEMS, USERS)
    assert (first.user, first.moment, first.items_S.tolist(), first.taken_S.tolist()) == (
        -1,
        DAY,
        [0, 1],
        [False, True],
    )
    assert (second.user, second.moment) == (0, DAY + 10)
    assert (second.items_S.tolist(), second.taken_S.tolist()) == ([2, 3, 4], [True, True, False])
    assert shown_groups(impressions(rows), ITEMS, USERS, since=DAY + 2)[0].user == 0


def test_groups_when_requests_show_several_items_then_a_request_is_together() -> None:
    rows = [(0, "u", "a", 9, 1.0), (0, "u", "b", 9, 0.0), (1, "u", "c", 9, 0.0), (1, "u", "d", 9, 0.0)]
    (only,) = shown_groups(impressions(rows), ITEMS, USERS)
    assert only.items_S.tolist() == [0, 1]


def test_ranking_when_asked_then_only_what_was_shown_is_eligible_and_histories_end_before_it() -> None:
    rows = [(0, "u", "b", DAY + 10, 0.0), (1, "u", "d", DAY + 20, 1.0), (2, "v", "c", 7, 1.0), (3, "v", "e", 8, 0.0)]
    rising, falling = ByNumber("rising"), ByNumber("falling", sign=-1)
    found = rank_shown([falling, rising], log(), shown_groups(impressions(rows), ITEMS, USERS), seed=0)
    assert found is not None
    stranger, known = rising.asked
    assert (stranger.history.items.tolist(), known.history.items.tolist()) == ([], [0, 1])
    assert known.keep_seen  # b was shown again, so it is ranked
    # rising puts d above b, right, and e above c, wrong: .5; falling the other way round
    figures = {row.recommender: row.figures for row in found.rows if row.slice == "all"}
    assert figures["rising"]["auc"].value == figures["falling"]["auc"].value == 0.5
    by_kind = {(row.recommender, row.slice): row.figures["auc"].value for row in found.rows}
    assert by_kind["rising", "short history"] == by_kind["falling", "without a history"] == 1.0
    assert found.groups == {"all": 2, "without a history": 1, "short history": 1}
    (pair,) = (row for row in found.paired if row.group == "short history")
    assert (pair.recommender, pair.compared_with, pair.difference["auc"].value) == ("rising", "falling", 1.0)
    assert ShownRanking.from_json(found.to_json()) == found


def test_ranking_when_a_recommender_leaves_items_out_then_they_are_equal_and_last() -> None:
    rows = [(0, "u", "a", 9, 1.0), (1, "u", "b", 9, 0.0), (2, "u", "e", 9, 0.0)]
    lazy = ByNumber("lazy", least=4)
    found = rank_shown([lazy], log(), shown_groups(impressions(rows), ITEMS, USERS), seed=0)
    assert found is not None
    # e is first and was passed; a and b are equal: half of one of two pairs is right
    assert found.rows[0].figures["auc"].value == pytest.approx(0.25)
    assert found.rows[0].figures["first taken"].value == 0.0


def test_ranking_when_nothing_can_be_compared_then_none() -> None:
    rows = [(0, "u", "a", 9, 1.0), (1, "u", "b", 9, 1.0)]
    assert rank_shown([ByNumber("any")], log(), shown_groups(impressions(rows), ITEMS, USERS), seed=0) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=8))
def test_auc_when_scores_tie_then_as_counted_pair_by_pair(pairs: list[tuple[int, bool]]) -> None:
    scores, taken = np.array([score for score, _ in pairs], np.float32), np.array([one for _, one in pairs])
    if taken.all() or not taken.any():
        return
    right = [(a > b) + 0.5 * (a == b) for a in scores[taken].tolist() for b in scores[~taken].tolist()]
    assert auc(scores, taken) == pytest.approx(sum(right) / len(right))
