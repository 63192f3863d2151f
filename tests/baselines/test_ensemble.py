"""The ensemble against its parts, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from recsys.baselines.cooccurrence import Cooccurrence
from recsys.baselines.ensemble import Ensemble, EnsembleConfig
from recsys.baselines.sasrec import SASRec
from recsys.contracts import requests_for
from recsys.data.splits import questions, training_log
from tests.baselines.test_baselines import CYCLE, cycle_log, history, small
from tests.support.promises import assert_promises


@pytest.fixture(scope="module")
def parts() -> tuple[SASRec, SASRec, Cooccurrence]:
    training = training_log(cycle_log())
    first, second = (SASRec.fit(training, small(epochs=2), seed=seed) for seed in (1, 2))
    return first, second, Cooccurrence.fit(training)


def test_ensemble_when_shares_are_given_then_scores_are_the_sum_of_log_probabilities(
    parts: tuple[SASRec, SASRec, Cooccurrence],
) -> None:
    config = EnsembleConfig(shares=(0.5, 0.2, 0.3), floor=0.01)
    queries = history(3, 4)
    (slate,) = Ensemble.of(parts, config).recommend(requests_for([queries], n=3, keep_seen=True))
    total = np.zeros(CYCLE)
    for share, part in zip((0.5, 0.2), parts[:2], strict=True):
        logits = part.scores([queries])[0].astype(np.float64)
        total += share * (logits - np.log(np.exp(logits).sum()))
    votes = parts[2].scores([queries])[0].astype(np.float64)
    total += 0.3 * np.log(0.99 * votes / votes.sum() + 0.01 / CYCLE)
    np.testing.assert_array_equal(slate.items, np.argsort(-total)[:3])
    np.testing.assert_allclose(slate.scores, np.sort(total)[::-1][:3], rtol=1e-4)


def test_ensemble_when_validation_is_given_then_no_tried_shares_are_better(
    parts: tuple[SASRec, SASRec, Cooccurrence],
) -> None:
    queries = questions(cycle_log(), "validation")
    config = EnsembleConfig(steps=2)
    chosen = Ensemble.of(parts, config, validation=queries).config.shares
    assert sum(chosen) == 1

    def found(shares: tuple[float, float, float]) -> float:
        ensemble = Ensemble.of(parts, config.model_copy(update={"shares": shares}))
        slates = ensemble.recommend(requests_for(queries.histories, n=10))
        ranks = [
            1 + slate.items.tolist().index(target) if target in slate.items else 0
            for slate, target in zip(slates, queries.targets_U.tolist(), strict=True)
        ]
        return sum(1 / np.log2(rank + 1) for rank in ranks if rank)

    others = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)]
    assert found(chosen) >= max(found(shares) for shares in others) - 1e-9


def test_ensemble_when_saved_and_loaded_then_it_says_the_same_and_keeps_every_promise(
    parts: tuple[SASRec, SASRec, Cooccurrence], tmp_path: Path
) -> None:
    ensemble = Ensemble.of(parts, EnsembleConfig(shares=(0.2, 0.3, 0.5)))
    ensemble.save(tmp_path)
    loaded = Ensemble.load(tmp_path)
    queries = [history(1, 2), history(), history(7)]
    for one, other in zip(*(model.recommend(requests_for(queries, n=5)) for model in (ensemble, loaded)), strict=True):
        np.testing.assert_array_equal(one.items, other.items)
    assert_promises(loaded, queries, num_items=CYCLE, n=4, keep_seen=False, ineligible={5})
