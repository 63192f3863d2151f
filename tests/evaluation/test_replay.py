"""Temporal replay: what a recommender may know when it is asked, and what the rows say."""

import json

import numpy as np
import pytest

from recsys.contracts import Slate
from recsys.data.events import build_log
from recsys.data.splits import held_out_events, training_log
from recsys.evaluation.replay import hold_out, replay

DAY = 86_400


class Recorder:
    """Keeps the histories of each call and answers with the next items after the last one seen."""

    name = "recorder"

    def __init__(self, num_items):
        self.num_items, self.calls = num_items, []

    def recommend(self, requests):
        histories, n = [request.history for request in requests], requests[0].n
        self.calls.append([(h.items.tolist(), h.timestamps.tolist()) for h in histories])
        scores = np.arange(n, 0, -1).astype(np.float32)
        firsts = [int(h.items[-1]) + 1 if len(h.items) else 0 for h in histories]
        return [Slate(items=(first + np.arange(n)) % self.num_items, scores=scores) for first in firsts]


def random_log(seed=0, users=30, events=600, num_items=40):
    rng = np.random.default_rng(seed)
    return build_log(
        rng.integers(users, size=events), rng.integers(num_items, size=events),
        rng.integers(20 * DAY, size=events), np.arange(events), num_users=users, num_items=num_items,
    )  # fmt: skip


def hand_log():
    # user 0: items 0..4 on days 0..4 and item 5 twice-busy day 9 (5 then 6); user 1: only day 9, items 0 and 7
    user = np.array([0] * 7 + [1] * 2)
    item = np.array([0, 1, 2, 3, 4, 5, 6, 0, 7])
    time = np.array([0, 1, 2, 3, 4, 9, 9, 9, 9]) * DAY + np.array([0, 0, 0, 0, 0, 10, 20, 5, 30])
    return build_log(user, item, time, np.arange(9), num_users=2, num_items=30)


@pytest.mark.parametrize("batch_by", ["day", "timestamp"])
def test_replay_when_asked_then_no_history_holds_an_event_of_its_batch(batch_by):
    log, size = random_log(), DAY if batch_by == "day" else 1
    recorder = Recorder(log.num_items)
    result = replay([recorder], log, batch_by=batch_by, max_events=None, seed=0)
    batches = log.timestamps_E // size
    cut = np.quantile(batches, 0.9, method="lower")
    expected = []  # per batch in time order, the sorted (history, its times), worked out the slow way
    for batch in np.unique(batches[batches >= cut]):
        asked = []
        for user in range(log.num_users):
            whole = log.history(user)
            before = whole.timestamps // size < batch
            now = int((whole.timestamps // size == batch).sum())
            asked += [(whole.items[before].tolist(), whole.timestamps[before].tolist())] * now
        expected.append(sorted(asked))
    assert [sorted(call) for call in recorder.calls] == expected
    assert result.events["all"] == int((batches >= cut).sum())


def test_replay_when_world_is_hand_made_then_rows_have_the_hand_values():
    result = replay([Recorder(30)], hand_log(), max_events=None, seed=0)
    rows = {row.slice: row.figures for row in result.rows}
    # quantile 0.9 lies on day 9: four events.
    # User 0 (history 0..4) is answered 5, 6, ..: target 5 has rank 1, 6 rank 2.
    # User 1 (empty history) is answered 0, 1, ..: target 0 has rank 1, 7 rank 8.
    assert rows["all"]["recall@10"].value == 1.0
    wanted = (1 + 1 / np.log2(3) + 1 + 1 / np.log2(9)) / 4
    assert rows["all"]["ndcg@10"].value == pytest.approx(wanted)
    assert rows["new users"]["ndcg@10"].value == pytest.approx((1 + 1 / np.log2(9)) / 2)
    assert rows["short history"] == rows["new users"]  # user 0 has five events before
    assert result.events == {"all": 4, "new users": 2, "short history": 2}
    assert rows["all"]["ndcg@10"].low <= wanted <= rows["all"]["ndcg@10"].high


def test_replay_when_written_as_json_then_has_the_frozen_keys():
    result = json.loads(json.dumps(replay([Recorder(40)], random_log(), seed=0).to_json()))
    assert result["off_policy"] == []
    assert "may have seen what other users did after the cut" in result["note"]
    for row in result["rows"]:
        assert set(row) == {"recommender", "slice", "recall@10", "ndcg@10"}
        assert set(row["ndcg@10"]) == {"value", "low", "high"}


def test_replay_when_a_slice_is_empty_then_has_no_row():
    log = build_log(np.zeros(40, int), np.arange(40), np.arange(40) * DAY, np.arange(40), num_users=1, num_items=40)
    slices = [row.slice for row in replay([Recorder(40)], log, seed=0).rows]
    assert slices == ["all"]  # one user, with 35 events before the cut


def test_hold_out_when_there_are_too_many_events_then_samples_them_by_seed_in_time_order():
    log = random_log()
    first, again, other = (hold_out(log, batch_by="day", max_events=10, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 10
    assert first.events_H.tolist() == again.events_H.tolist() != other.events_H.tolist()
    assert (np.diff(log.timestamps_E[first.events_H]) >= 0).all()


def test_hold_out_when_log_is_empty_then_refuses():
    nothing = np.zeros(0, np.int64)
    log = build_log(nothing, nothing, nothing, nothing, num_users=1, num_items=1)
    with pytest.raises(ValueError, match="at least one event"):
        hold_out(log, batch_by="day", max_events=None, seed=0)


def test_held_out_events_when_listed_then_are_what_training_never_sees() -> None:
    # User 0 has four events (the last two are held out), user 1 two (too few to evaluate: all train).
    users = np.array([0, 0, 0, 0, 1, 1])
    log = build_log(users, np.arange(6), np.arange(6), np.arange(6), num_users=2, num_items=6)
    assert held_out_events(log).tolist() == [False, False, True, True, False, False]
    assert set(log.items_E[held_out_events(log)]).isdisjoint(training_log(log).items_E)


def test_hold_out_when_events_are_not_askable_then_leaves_them_out() -> None:
    users, times = np.repeat([0, 1], 4), np.tile(np.arange(4) * 86_400, 2)
    log = build_log(users, np.arange(8) % 5, times, np.arange(8), num_users=2, num_items=5)
    asked = hold_out(log, batch_by="day", max_events=None, seed=0, askable_E=np.arange(8) == 7)
    assert asked.events_H.tolist() == [7]
