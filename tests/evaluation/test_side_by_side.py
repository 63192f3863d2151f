"""What changes between two recommenders, by hand."""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import History, Request, Slate, empty_history
from recsys.evaluation.side_by_side import side_by_side


class Table:
    """Shows a fixed slate for each length of history."""

    def __init__(self, slates: dict[int, list[int]]) -> None:
        self.name, self.slates = "table", slates

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        found = [self.slates[len(one.history.items)] for one in requests]
        return [Slate(items=np.array(items), scores=-np.arange(len(items)).astype(np.float32)) for items in found]


def test_side_by_side_when_slates_differ_then_says_who_enters_and_leaves_and_for_whom() -> None:
    one = History(items=np.array([9]), timestamps=np.array([0]))
    before, after = Table({0: [1, 2, 3, 4], 1: [5, 6, 7, 8]}), Table({0: [4, 3, 2, 1], 1: [8, 1, 2, 5]})
    found = side_by_side(before, after, [empty_history(), one], users=[70, 71], num_items=10, n=4)
    # user 70 keeps all four; user 71 keeps 5 and 8 of four: (1 + .5) / 2
    assert found.overlap == 0.75
    assert dict(found.enters) == {1: 1, 2: 1}
    assert dict(found.leaves) == {6: 1, 7: 1}
    assert [(example.user, example.enters, example.leaves) for example in found.examples] == [(71, (1, 2), (6, 7))]


def test_side_by_side_when_both_are_one_then_nothing_changes() -> None:
    same = Table({0: [1, 2]})
    found = side_by_side(same, same, [empty_history()], users=[0], num_items=3, n=2)
    assert (found.overlap, found.enters, found.leaves, found.examples) == (1.0, (), (), ())
