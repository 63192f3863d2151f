"""A scorer that keeps states returns what one that does not returns, and encodes no batch twice."""

import numpy as np
import pytest
import torch

from recsys.contracts import History
from recsys.model.generator import Generator
from recsys.recommender.scorer import GeneratorScorer
from tests.support.cycle_world import tiny_generator


def history(*items: int) -> History:
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)) * 3600)


def test_keeping_states_when_batches_come_again_then_scores_are_equal_and_nothing_is_encoded_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = GeneratorScorer(tiny_generator())
    keeping, encode, calls = plain.keeping_states(), Generator.encode, 0

    def counted(*args: object, **settings: object) -> object:
        nonlocal calls
        calls += 1
        return encode(*args, **settings)  # type: ignore[arg-type]

    first, second = [history(1, 2), history(3)], [history(1), history(2, 3)]  # the same items, parted elsewhere
    wanted = [plain.score_items(plain.encode(batch)) for batch in (first, second, first)]
    monkeypatch.setattr(Generator, "encode", counted)
    with torch.inference_mode():
        found = [keeping.score_items(keeping.encode(batch)) for batch in (first, second, first)]
    assert calls == 2
    for got, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, expected)
