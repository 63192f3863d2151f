"""Cross-fitted item vectors: they do not know the users whose pairs stand beside them."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.events import EventLog
from recsys.data.pairs import following_pairs
from recsys.features.assemble import FeatureBuilder, FeatureConfig
from recsys.features.behavioural import BehaviouralConfig
from recsys.features.cross_fit import cross_fitted_pairs, turned_like


def log_of(histories, num_items):
    return EventLog(
        offsets_U1=np.cumsum([0, *map(len, histories)]),
        items_E=np.concatenate(histories),
        timestamps_E=np.arange(sum(map(len, histories))),
        num_items=num_items,
    )


def test_following_pairs_when_two_apart_then_stay_in_one_history_and_are_of_two_items():
    # User 0: 3 5 3; user 1: 7 8. One apart: 3-5, 5-3, 7-8; two apart: 3-3 is one item, and so no pair.
    log = log_of([[3, 5, 3], [7, 8]], 9)
    assert list(zip(*following_pairs(log, 1), strict=True)) == [(3, 5), (5, 3), (7, 8)]
    assert list(zip(*following_pairs(log, 2), strict=True)) == [(3, 5), (5, 3), (7, 8)]
    assert [len(part) for part in following_pairs(log_of([[1], [2]], 3), 3)] == [0, 0]


def test_turned_like_when_one_is_the_other_turned_then_equals_it():
    rng = np.random.default_rng(0)
    wanted_NF = rng.normal(size=(30, 5))
    turn_FF, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    turned_NF = wanted_NF @ turn_FF
    turned_NF[3] = 0  # an item that nobody used
    again_NF = turned_like(turned_NF, wanted_NF)
    np.testing.assert_allclose(np.delete(again_NF, 3, 0), np.delete(wanted_NF, 3, 0), atol=1e-5)
    assert not again_NF[3].any()


def test_cross_fitted_pairs_when_dealt_then_every_pair_is_there_once_and_vectors_do_not_know_it():
    # Users walk in a circle of twelve items; user 0 alone also goes from item 0 to 6 again and again.
    rng = np.random.default_rng(1)
    walks = [(start + np.arange(6)) % 12 for start in rng.integers(0, 12, 40)]
    log = log_of([np.array([0, 6] * 6), *walks], 12)
    items = pa.table({"item_id": list(range(12)), "title": [f"thing {n} of kind {n % 3}" for n in range(12)]})
    config = FeatureConfig(behavioural=BehaviouralConfig(width=6, window=1), use_text=False, width=None)
    builder = FeatureBuilder.fit(items, log, config, seed=0)
    folds = list(cross_fitted_pairs(builder, log, folds=2, distance=1, seed=3))
    counted = sorted((left, right) for fold in folds for left, right in zip(fold.left_P, fold.right_P, strict=True))
    assert counted == sorted(zip(*following_pairs(log, 1), strict=True))
    own = next(fold for fold in folds if ((fold.left_P == 0) & (fold.right_P == 6)).any())
    other = next(fold for fold in folds if fold is not own)

    def cosine(vectors_NF):
        return vectors_NF[0] @ vectors_NF[6] / np.linalg.norm(vectors_NF[0]) / np.linalg.norm(vectors_NF[6])

    def near(vectors_NF):
        unit_NF = vectors_NF / np.linalg.norm(vectors_NF, axis=1, keepdims=True)
        return float((unit_NF * builder.features.vectors_NF).sum(axis=1).mean())

    assert cosine(own.vectors_NF) != pytest.approx(cosine(other.vectors_NF), abs=0.05)
    assert near(other.vectors_NF) > 0.6  # still the space of the builder's own vectors
