"""What events count: types, signs, weights; and logs that nothing can be learned from."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.core.errors import ConfigError, DataError
from recsys.data.preferences import event_weights
from recsys.data.prepare import PrepareConfig, prepare
from recsys.data.table import Dataset, build_dataset
from recsys.data.trainable import check_trainable


def _dataset(types: list[str | None], weights: list[float | None] | None = None) -> Dataset:
    count = len(types)
    columns = {
        "user_id": [1] * count,
        "item_id": list(range(count)),
        "timestamp": list(range(count)),
        "event_type": types,
    }
    return build_dataset(pa.table(columns | ({"weight": weights} if weights else {})), None, where="test")


def test_event_weights_when_no_recipe_says_more_then_dislikes_and_impressions_are_no_likes() -> None:
    rows = _dataset(["view", "Dislike", "impression", "not interested", None]).interactions
    assert event_weights(rows, {}).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


def test_event_types_note_when_a_log_is_read_then_counts_them_and_names_no_likes() -> None:
    assert _dataset(["view", "Dislike", "view", None]).notes[-1] == (
        "event types: view 2, Dislike 1, no type 1; no likes unless data.event_weights says so: Dislike"
    )


def test_event_weights_when_types_are_named_then_others_count_nothing_and_weights_multiply() -> None:
    rows = _dataset(["buy", "view", "dislike", "other"], [2.0, None, 1.0, 5.0]).interactions
    # buy 1 x 2, view 0.5 x 1 (no weight of its own), dislike -1 x 1, other 0 x 5
    assert event_weights(rows, {"buy": 1.0, "view": 0.5, "dislike": -1.0}).tolist() == [2.0, 0.5, -1.0, 0.0]


def test_prepare_when_events_are_no_likes_then_they_are_left_out_and_counted_by_type() -> None:
    dataset = _dataset(["view", "dislike", "impression", "view", "view"], [1.0, 1.0, 1.0, -1.0, 0.0])
    prepared = prepare(dataset, PrepareConfig())
    assert prepared.log.items_E.tolist() == [0]
    assert prepared.report["rows_no_likes"] == {"dislike": 1, "impression": 1, "view": 2}
    named = PrepareConfig(event_weights={"view": 1.0, "impression": 0.2}, min_weight=0.5)
    assert prepare(dataset, named).log.items_E.tolist() == [0]


def test_prepare_when_the_weight_is_negative_then_the_event_is_no_like_without_types_too() -> None:
    rows = pa.table({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [1, 2], "weight": [-1.0, 3.0]})
    prepared = prepare(build_dataset(rows, None, where="test"), PrepareConfig())
    assert prepared.items["item_id"].to_pylist() == [1, 2]
    assert prepared.log.items_E.tolist() == [1]
    assert prepared.report["rows_no_likes"] == {"weight": 1}


def test_prepare_when_event_weights_do_not_fit_the_log_then_config_error() -> None:
    with pytest.raises(ConfigError, match="got 'buys'"):
        prepare(_dataset(["buy"]), PrepareConfig(event_weights={"buys": 1.0}))
    rows = build_dataset(pa.table({"user_id": [1], "item_id": [1], "timestamp": [1]}), None, where="test")
    with pytest.raises(ConfigError, match="without an 'event_type' column"):
        prepare(rows, PrepareConfig(event_weights={"buy": 1.0}))
    with pytest.raises(ConfigError, match="1 of the rest count no more than min_weight="):
        prepare(_dataset(["dislike"]), PrepareConfig())


def _log(events_of_users: list[int], items: int) -> Dataset:
    users = np.repeat(np.arange(len(events_of_users)), events_of_users)
    times = np.arange(len(users))
    return build_dataset(pa.table({"user_id": users, "item_id": times % items, "timestamp": times}), None, where="test")


@pytest.mark.parametrize(
    ("events_of_users", "items", "said"),
    [
        ([40], 10, "more than 10 items.* got 10 "),
        ([1] * 30, 30, r"one user must have 3 events.* longest history has 1 \(30 events of 30 users on 30 items\)"),
        ([2] * 30, 30, "one user must have 3 events.* longest history has 2"),
        ([3] * 30, 30, r"two events in a row left for training \(leave-one-out.* longest history has 3"),
    ],
)
def test_check_trainable_when_a_log_is_too_small_then_says_the_numbers_and_the_remedy(
    events_of_users: list[int], items: int, said: str
) -> None:
    prepared = prepare(_log(events_of_users, items), PrepareConfig())
    with pytest.raises(DataError, match=said + ".*(import more events)"):
        check_trainable(prepared.log)


def test_check_trainable_when_the_cut_in_time_leaves_nobody_to_ask_then_says_so() -> None:
    # each user is there on one day only, so nobody has events on both sides of a cut
    users = np.repeat(np.arange(20), 5)
    rows = pa.table({"user_id": users, "item_id": np.arange(100), "timestamp": users * 86_400})
    prepared = prepare(build_dataset(rows, None, where="test"), PrepareConfig(split="time"))
    with pytest.raises(DataError, match=r"both sides of the cut in time.*leave-one-out"):
        check_trainable(prepared.log)


def test_check_trainable_when_few_users_are_evaluated_then_says_so_and_goes_on() -> None:
    again = check_trainable(prepare(_log([40] * 100, 30), PrepareConfig()).log)
    # items come round every 30 events, so each of the 100 users has the target of 40 events already
    assert again == (
        "100 of 100 evaluated users come back to an item they have: where seen items are removed these count as misses",
    )
    # users with 4, 4 and 20 events are evaluated, the one with 2 is not
    assert "only 3 users are evaluated" in check_trainable(prepare(_log([4, 4, 2, 20], 30), PrepareConfig()).log)[0]
    assert check_trainable(prepare(_log([4] * 100, 30), PrepareConfig()).log) == ()
