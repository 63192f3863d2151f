"""A scorer that remembers says what one that does not says, and encodes nothing twice."""

import numpy as np
import pytest
import torch

from recsys.contracts import History
from recsys.model.generator import Generator
from recsys.recommender.scorer import GeneratorScorer
from tests.support.cycle_world import tiny_generator


def history(*items: int) -> History:
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)) * 3600)


def test_remembering_when_histories_come_again_then_scores_are_equal_and_nothing_is_encoded_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = GeneratorScorer(tiny_generator())
    remembering, encode, calls = plain.remembering(), Generator.encode, 0

    def counted(*args: object, **settings: object) -> object:
        nonlocal calls
        calls += 1
        return encode(*args, **settings)  # type: ignore[arg-type]

    first, second = [history(1, 2), history(3)], [history(1), history(2, 3)]  # the same items, parted elsewhere
    wanted = [plain.score_items(plain.encode(batch)) for batch in (first, second, first)]
    monkeypatch.setattr(Generator, "encode", counted)
    with torch.inference_mode():
        found = [remembering.score_items(remembering.encode(batch)) for batch in (first, second, first)]
    assert calls == 2
    for got, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_remembering_when_times_differ_then_histories_are_encoded_anew() -> None:
    scorer = GeneratorScorer(tiny_generator()).remembering()
    early, late = history(1, 2), History(items=np.array([1, 2]), timestamps=np.array([0, 10**6]))
    assert scorer.encode([early]) is scorer.encode([early])
    assert scorer.encode([early]) is not scorer.encode([late])
