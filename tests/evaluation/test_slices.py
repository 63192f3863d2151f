"""Slices of target events: heads, transitions and categories by hand."""

import numpy as np

from recsys.data.events import build_log
from recsys.evaluation.slices import TargetEvents, head_items, slices


def test_head_items_when_counts_fall_then_holds_the_fewest_that_make_half() -> None:
    assert head_items(np.array([1, 5, 3, 1])).tolist() == [False, True, False, False]
    assert head_items(np.array([2, 2, 2, 2])).tolist() == [True, True, False, False]
    assert head_items(np.array([0, 0])).tolist() == [False, False]


def test_slices_when_transitions_cross_users_then_only_steps_of_one_user_count() -> None:
    # training: user 0 walks 0, 1, 2; user 1 walks 3, 0. The step 2 -> 3 is of no user.
    users, items = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 0])
    training = build_log(users, items, np.arange(5), np.arange(5), num_users=2, num_items=6)
    events = TargetEvents(
        users_H=np.arange(5),
        targets_H=np.array([1, 3, 0, 5, 6]),  # 5 is in the catalogue, never trained; 6 is not in the catalogue
        lengths_H=np.array([1, 3, 2, 0, 25]),
        last_H=np.array([0, 2, 3, -1, 0]),
        new_H=np.array([False, False, False, True, False]),
    )
    found = slices(events, training=training, categories_N=["a", "b", "a", None, "a", "b"])
    members = {name: np.flatnonzero(mask).tolist() for name, mask in found.items()}
    assert members["transitions seen in training"] == [0, 2]
    assert members["transitions not seen in training"] == [1, 4]  # a first event is neither
    assert members["new items"] == [3]
    assert members["unknown items"] == [4]
    assert members["active users"] == [4]
    assert members["category: a"] == [2]
    assert members["category: b"] == [0, 3]
    assert sorted(members["head items"] + members["tail items"]) == [0, 1, 2]
