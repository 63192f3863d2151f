"""Temporal replay: what a recommender may know when it is asked, and what the rows say."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from recsys.contracts import Request, Slate
from recsys.core.arrays import IntArray
from recsys.core.errors import DataError
from recsys.data.events import EventLog, TimeCuts, build_log
from recsys.data.prepare import PrepareConfig, Prepared, prepare
from recsys.data.splits import training_log
from recsys.data.table import build_dataset
from recsys.evaluation.replay import ReplayConfig, replay
from recsys.evaluation.replay_log import ReplayLog, joined_log, own_log
from recsys.evaluation.replay_results import Replay
from recsys.evaluation.timeline import check_no_future, histories, timeline

DAY = 86_400
ALL = ReplayConfig(max_events=None)


class Recorder:
    """Keeps the histories it was asked with and answers with the next items after the last one seen."""

    name = "recorder"

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items
        self.asked: list[tuple[list[int], list[int]]] = []

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        self.asked += [(one.history.items.tolist(), one.history.timestamps.tolist()) for one in requests]
        firsts = [int(one.history.items[-1]) + 1 if len(one.history.items) else 0 for one in requests]
        n = requests[0].n
        scores = np.arange(n, 0, -1).astype(np.float32)
        return [Slate(items=(first + np.arange(n)) % self.num_items, scores=scores) for first in firsts]


def prepared_of(
    users: Sequence[int] | IntArray, items: Sequence[int] | IntArray, times: Sequence[int] | IntArray, **config: object
) -> Prepared:
    rows = pa.table({"user_id": np.asarray(users), "item_id": np.asarray(items), "timestamp": np.asarray(times)})
    every = pa.table({"item_id": np.arange(int(np.max(items)) + 1)})
    return prepare(build_dataset(rows, every, where="test"), PrepareConfig(**config))  # type: ignore[arg-type]


def random_prepared(*, step: int = 1, seed: int = 0, events: int = 600, **config: object) -> Prepared:
    rng = np.random.default_rng(seed)
    times = 1_000_000 * DAY // step // 1000 * step + rng.integers(20 * DAY // step, size=events) * step
    items = np.concatenate([rng.integers(40, size=events - 1), [39]])
    return prepared_of(rng.integers(30, size=events), items, times, **config)


def run_replay(prepared: Prepared, replayed: ReplayLog, config: ReplayConfig = ALL) -> tuple[Recorder, Replay]:
    recorder = Recorder(prepared.log.num_items)
    result = replay([recorder], replayed, training=training_log(prepared.log), config=config, seed=0)
    return recorder, result


@pytest.mark.parametrize("step", [DAY, 1])
@pytest.mark.parametrize("split", ["time", "leave-one-out"])
def test_replay_when_asked_then_no_history_holds_an_event_of_its_batch(step: int, split: str) -> None:
    prepared = random_prepared(step=step, split=split)
    log = prepared.log
    recorder, result = run_replay(prepared, own_log(prepared))
    expected = {}  # each history of a held-out event by a slow walk, once: those of a batch, and those without events
    held_out = []
    batches = log.timestamps_E // step
    begin = log.cuts.test // step if log.cuts else int(np.quantile(batches, 0.9, method="lower"))
    for user in range(log.num_users):
        whole = log.history(user)
        for place, moment in enumerate(whole.timestamps.tolist()):
            last_two = place >= len(whole.items) - 2 and len(whole.items) >= 3
            if moment // step >= begin and (split == "time" or last_two):
                held_out.append((moment, user, place))
    for moment, user, _ in held_out:
        whole = log.history(user)
        before = whole.timestamps // step < moment // step
        key = (user, int(before.sum())) if before.any() else None
        expected[key] = (whole.items[before].tolist(), whole.timestamps[before].tolist())
    assert sorted(recorder.asked) == sorted(expected.values())
    assert result.costs[0].requests == len(expected)
    assert result.events["all"] == result.counts["asked"] == len(held_out)
    assert ("flatters" in result.note) is (split != "time")
    assert result.split.startswith("global time cut" if split == "time" else "leave-one-out")


def hand_prepared() -> Prepared:
    # user 0: items 0..4 on days 0..4, then 5 and 6 on day 9; user 1: items 0 and 7 on day 9 alone
    users = [0] * 7 + [1] * 2
    items = [0, 1, 2, 3, 4, 5, 6, 0, 7]
    return prepared_of(users, items, np.array([0, 1, 2, 3, 4, 9, 9, 9, 9]) * DAY)


def hand_log(prepared: Prepared) -> ReplayLog:
    batches = prepared.log.timestamps_E // DAY
    return replace(own_log(prepared), target_E=batches == 9, batch_E=batches, start=9)


def test_replay_when_world_is_hand_made_then_rows_have_the_hand_values() -> None:
    prepared = hand_prepared()
    _, result = run_replay(prepared, hand_log(prepared))
    rows = {row.slice: row.figures for row in result.rows}
    # User 0 (history 0..4) is answered 5, 6, ..: target 5 has rank 1, 6 rank 2.
    # User 1 (empty history) is answered 0, 1, ..: target 0 has rank 1, 7 rank 8.
    assert rows["all"]["recall@10"].value == 1.0
    wanted = (1 + 1 / np.log2(3) + 1 + 1 / np.log2(9)) / 4
    assert rows["all"]["ndcg@10"].value == pytest.approx(wanted)
    assert rows["new users"]["ndcg@10"].value == pytest.approx((1 + 1 / np.log2(9)) / 2)
    assert rows["short history"] == rows["new users"]  # user 0 has five events before
    # training saw 0..4 of user 0 and both events of user 1: item 0 twice. Half of seven events are items 0 and 1.
    assert {name: result.events[name] for name in ("new items", "head items", "tail items")} == {
        "new items": 2,
        "head items": 1,
        "tail items": 1,
    }
    # 0 -> 7 is user 1's own training transition, but that user has no history yet when asked; 4 -> 5 and 4 -> 6 are new
    assert result.events["transitions not seen in training"] == 2
    assert "transitions seen in training" not in result.events
    assert rows["all"]["ndcg@10"].low <= wanted <= rows["all"]["ndcg@10"].high


def test_replay_when_written_as_json_then_has_the_frozen_keys() -> None:
    prepared = random_prepared()
    _, result = run_replay(prepared, own_log(prepared))
    values = json.loads(json.dumps(result.to_json()))
    assert Replay.from_json(values) == result
    assert {"log", "rows", "off_policy", "split", "over_time", "paired", "costs", "counts"} <= set(values)
    for row in values["rows"]:
        assert set(row) == {"recommender", "slice", "recall@10", "ndcg@10"}
        assert set(row["ndcg@10"]) == {"value", "low", "high"}


def test_replay_when_two_recommenders_are_alike_then_their_difference_is_zero_and_periods_hold_all_events() -> None:
    prepared = random_prepared(split="time")
    one, same = Recorder(40), Recorder(40)
    result = replay([one, same], own_log(prepared), training=training_log(prepared.log), config=ALL, seed=0)
    for row in result.paired:
        assert all((d.value, d.low, d.high) == (0.0, 0.0, 0.0) for d in row.difference.values())
    mine = result.over_time[: len(result.over_time) // 2]
    assert sum(row.events for row in mine) == result.counts["asked"]
    assert all(a.end < b.start for a, b in pairwise(mine))
    total = sum(row.events * row.figures["recall@10"].value for row in mine)
    assert total / result.counts["asked"] == pytest.approx(result.rows[0].figures["recall@10"].value)


def test_timeline_when_there_are_too_many_events_then_samples_them_by_seed_in_time_order() -> None:
    replayed = own_log(random_prepared(split="time"))
    first, again, other = (timeline(replayed, max_events=10, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 10
    assert first.events_H.tolist() == again.events_H.tolist() != other.events_H.tolist()
    assert (np.diff(replayed.log.timestamps_E[first.events_H]) >= 0).all()


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_replay_when_events_share_a_request_then_as_if_each_was_asked_alone(batch_size: int) -> None:
    prepared = random_prepared(step=DAY, split="time")
    replayed = own_log(prepared)
    line = timeline(replayed, max_events=None, seed=0)
    recommender, hits = Recorder(prepared.log.num_items), []
    for place, event in enumerate(line.events_H.tolist()):
        (history,) = histories(replayed.log, line, np.array([place]))
        (slate,) = recommender.recommend([Request(history=history, n=11)])
        hits.append(int(replayed.log.items_E[event] in slate.items[:10]))
    alone = len(recommender.asked)
    config = ReplayConfig(max_events=None, batch_size=batch_size)
    recorder, result = run_replay(prepared, replayed, config)
    assert 0 < len(recorder.asked) < alone
    assert result.rows[0].figures["recall@10"].value == pytest.approx(sum(hits) / alone)
    assert 0 < sum(hits) < alone


def test_joined_log_when_ids_are_unknown_then_counted_asked_and_left_out_of_histories() -> None:
    prepared = prepared_of([1, 1, 1, 2, 2, 2], [0, 1, 2, 2, 1, 0], np.arange(6) * 10)
    # another log: user 2 goes on with an item nobody knows, then with item 1; user 9 is a stranger
    rows = pa.table({"user_id": [2, 2, 9, 1], "item_id": [77, 1, 2, 0], "timestamp": [100, 110, 120, 0]})
    replayed = joined_log(prepared, build_dataset(rows, None, where="new"))
    recorder, result = run_replay(prepared, replayed)
    assert recorder.asked == [([2, 1, 0], [30, 40, 50]), ([2, 1, 0], [30, 40, 50]), ([], [])]
    assert dict(result.counts) == {
        "events": 4,
        "known to training or too early": 1,  # user 1's item 0 is in the run
        "of unknown items": 1,
        "unknown items": 1,
        "of unknown users": 1,
        "unknown users": 1,
        "asked": 3,
        "sampled out": 0,
        "asked for unknown items": 1,
    }
    assert result.events["unknown items"] == 1


def test_joined_log_when_the_run_has_a_time_cut_then_only_later_events_are_asked() -> None:
    prepared = random_prepared(split="time")
    assert prepared.log.cuts is not None
    test = prepared.log.cuts.test
    rows = pa.table({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "timestamp": [test - 5, test + 5, test + 9]})
    recorder, result = run_replay(prepared, joined_log(prepared, build_dataset(rows, None, where="new")))
    assert len(recorder.asked) == 2
    assert result.counts["known to training or too early"] == 1


def test_own_log_when_all_events_lie_in_one_batch_then_refused_with_the_remedy() -> None:
    prepared = prepared_of(np.repeat(np.arange(10), 8), np.arange(80) % 20, np.full(80, 1_700_000_000))
    with pytest.raises(DataError, match=r"must span at least two batches, got 80 events in 1; .*recsys evaluate"):
        run_replay(prepared, own_log(prepared))


def test_own_log_when_one_day_has_seconds_then_batches_are_seconds_and_strangers_are_told() -> None:
    # one event a user, all on one day: nobody has a history, and the note says so
    prepared = prepared_of(np.arange(30), np.arange(30) % 10, 1_700_000_000 + np.arange(30))
    replayed = replace(own_log_of_strangers(prepared), start=0)
    _, result = run_replay(prepared, replayed)
    assert "No target event has a history" in result.note


def own_log_of_strangers(prepared: Prepared) -> ReplayLog:
    rows = pa.table({"user_id": np.arange(100, 110), "item_id": np.arange(10), "timestamp": np.arange(10) + 10**9})
    return joined_log(prepared, build_dataset(rows, None, where="new"))


def test_check_when_training_reaches_into_what_is_asked_then_the_replay_fails() -> None:
    # A planted leak: the cut that training used lies five days after the one that is asked from.
    prepared = random_prepared(split="time")
    cuts = prepared.log.cuts
    assert cuts is not None
    leaky = replace(own_log(prepared), trained_until=cuts.test + 5 * DAY)
    with pytest.raises(
        DataError, match=r"training must end before the target events, got training events up to \d+ and"
    ):
        run_replay(prepared, leaky)


def test_check_when_histories_reach_into_their_batch_then_the_replay_fails() -> None:
    replayed = own_log(random_prepared(split="time"))
    line = timeline(replayed, max_events=None, seed=0)
    with pytest.raises(DataError, match="histories must end before their target events"):
        check_no_future(replace(line, ends_H=line.events_H + 1), replayed)


def test_replay_when_recommender_was_fitted_on_the_future_then_its_training_log_is_not_the_runs() -> None:
    # With a cut, what lies behind it is not in the training log: fitting on that alone cannot leak.
    prepared = random_prepared(split="time")
    log = prepared.log
    moved = EventLog(
        offsets_U1=log.offsets_U1,
        items_E=log.items_E,
        timestamps_E=log.timestamps_E,
        num_items=log.num_items,
        cuts=TimeCuts(validation=int(log.timestamps_E.max()), test=int(log.timestamps_E.max()) + 1),
    )
    assert log.cuts is not None
    assert training_log(log).timestamps_E.max() < log.cuts.validation < training_log(moved).timestamps_E.max()


def test_build_log_when_users_have_no_events_then_histories_are_empty() -> None:
    nothing = np.zeros(0, np.int64)
    log = build_log(nothing, nothing, nothing, nothing, num_users=1, num_items=1)
    assert len(log.history(0).items) == 0
