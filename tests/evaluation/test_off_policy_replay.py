"""Recommenders on logged impressions: known truths, refusals, and how impressions become arrays."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from recsys.contracts import Request, Slate
from recsys.core.arrays import IntArray
from recsys.data.events import build_log
from recsys.data.impressions import clean_impressions
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.off_policy.logged import EMPTY, has_propensities, logged_requests
from recsys.evaluation.off_policy.plackett_luce import draw_slate, next_propensities
from recsys.evaluation.off_policy_replay import off_policy_rows

CHANCE = np.array([0.7, 0.2, 0.5, 0.1, 0.3])
WEIGHTS = np.array([1.0, 2.0, 2.0, 1.0, 1.0])
ITEMS, USERS = Vocabulary(list("abcde")), Vocabulary(["u", "v"])


class Fixed:
    """Shows the same slate to everybody."""

    def __init__(self, name: str, items: Sequence[int]) -> None:
        self.name, self.items = name, np.array(items)

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        n = requests[0].n
        return [Slate(items=self.items[:n], scores=-np.arange(n).astype(np.float32)) for _ in requests]


def impressions(
    requests: int, places: int, *, weights: np.ndarray = WEIGHTS, seed: int = 0, propensities: bool = True
) -> pa.Table:
    """Return slates drawn by Plackett-Luce over five items, rewarded item by item."""
    rng = np.random.default_rng(seed)
    rows = []
    for request in range(requests):
        slate: IntArray = draw_slate(weights, places, rng)
        chances = next_propensities(weights, slate)
        for place, item in enumerate(slate.tolist()):
            reward = float(rng.random() < CHANCE[item])
            rows.append((request, f"user {request % 50}", "abcde"[item], place, request, reward, chances[place]))
    names = ["request_id", "user_id", "item_id", "position", "timestamp", "reward", "propensity"]
    table = pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    return clean_impressions(table if propensities else table.drop_columns(["propensity"]), "test")


def empty_log() -> object:
    nothing = np.zeros(0, np.int64)
    return build_log(nothing, nothing, nothing, nothing, num_users=2, num_items=5)


def test_rows_when_slates_were_explored_then_intervals_hold_the_target_slates_true_reward() -> None:
    (logged,) = logged_requests(impressions(8000, 2), ITEMS, USERS)
    rows = off_policy_rows([Fixed("a, c", [0, 2])], empty_log(), logged, seed=0)  # type: ignore[arg-type]
    found = {(row.target, row.estimator): row for row in rows}
    for name in ("standard ips", "reward interaction ips", "cascade doubly robust"):
        row = found["a, c", name]
        assert row.refusal == ""
        assert row.estimate.low < CHANCE[0] + CHANCE[2] < row.estimate.high, name
    for name in ("ips", "snips", "doubly robust"):
        row = found["a, c", f"first: {name}"]
        assert row.estimate.low < CHANCE[0] < row.estimate.high, name
        assert row.effective_sample_size == pytest.approx(8000 * 1 / 7, rel=0.1)  # item a has weight 1 of 7
    uniform = found["uniform over the catalogue", "first: ips"].estimate
    assert uniform.low < CHANCE.mean() < uniform.high
    assert found["the logging policy itself", "on policy"].estimate.value == pytest.approx(
        float(logged.rewards_BS.sum(axis=1).mean())
    )
    assert found["a, c", "first: direct method"].biased


def test_rows_when_the_log_never_shows_the_targets_item_then_refused_in_words() -> None:
    never_a = WEIGHTS * np.array([0.0, 1, 1, 1, 1])
    (logged,) = logged_requests(impressions(3000, 1, weights=never_a), ITEMS, USERS)
    rows = off_policy_rows([Fixed("a", [0])], empty_log(), logged, seed=0)  # type: ignore[arg-type]
    refusals = {row.estimator: row.refusal for row in rows if row.target == "a"}
    assert refusals.pop("direct method") == ""  # it uses no weights; it is marked as biased instead
    assert all(text.startswith("this log cannot decide this: effective sample size 0.0") for text in refusals.values())
    on_policy = [row for row in rows if row.estimator == "on policy"]
    assert [row.refusal for row in on_policy] == [""]


def test_logged_requests_when_slates_differ_in_length_then_are_padded_in_order_of_position() -> None:
    table = pa.table(
        {
            "request_id": ["r", "r", "s", "t"],
            "user_id": ["v", "v", None, "u"],
            "item_id": ["b", "a", "zzz", "c"],
            "position": [2, 1, 1, 1],
            "timestamp": [5, 5, 6, 7],
            "reward": [1.0, 0.0, 0.5, 0.0],
            "propensity": [0.5, 0.25, 0.1, None],
            "policy": ["p", "p", "p", "q"],
        }
    )
    (logged,) = logged_requests(clean_impressions(table, "test"), ITEMS, USERS)  # t lacks a propensity
    assert logged.policy == "p"
    assert logged.items_BS.tolist() == [[0, 1], [5, EMPTY]]  # five stands for an item that the catalogue lacks
    assert logged.rewards_BS.tolist() == [[0.0, 1.0], [0.5, 0.0]]
    assert logged.propensities_BS.tolist() == [[0.25, 0.5], [0.1, 1.0]]
    assert logged.users_B.tolist() == [1, EMPTY]
    assert logged.since(6).times_B.tolist() == [6]


def test_has_propensities_when_none_is_logged_then_says_no() -> None:
    assert has_propensities(impressions(3, 1))
    assert not has_propensities(impressions(3, 1, propensities=False))
    assert not has_propensities(None)
