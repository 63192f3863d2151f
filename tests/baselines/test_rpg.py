"""RPG's scoring against sums worked by hand, and on a world that it can learn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.baselines.rpg import RPG, RPGConfig, RPGNetwork
from recsys.contracts import requests_for
from recsys.data.splits import questions, training_log
from tests.baselines.test_baselines import CYCLE, cycle_log, history
from tests.support.promises import assert_promises

CODES_NM = np.stack([np.arange(CYCLE) % 4, np.arange(CYCLE) // 4], axis=1)


def _config(epochs: int) -> RPGConfig:
    values = {"width": 32, "batch_positions": 128, "learning_rate": 5e-3, "dropout": 0.1, "validate_every": 4}
    return RPGConfig.model_validate(values | {"epochs": epochs, "codebook_size": 8, "device": "cpu"})


@pytest.fixture(scope="module")
def trained() -> RPG:
    log = cycle_log()
    return RPG.fit(training_log(log), CODES_NM, _config(20), seed=1, validation=questions(log, "validation"))


def test_scores_when_asked_then_each_is_the_mean_log_probability_of_the_items_codes(trained: RPG) -> None:
    queries = [history(3, 4, 5), history(9)]
    for one, scores_N in zip(queries, trained.scores(queries), strict=True):
        with torch.inference_mode():
            state_D = trained.network(torch.from_numpy(one.items)[None])[0, -1]
            log_prob_MK = trained.network.code_log_probs(state_D[None])[0].numpy()
        np.testing.assert_allclose(np.exp(log_prob_MK).sum(axis=1), 1, rtol=1e-5)
        for item in range(CYCLE):
            wanted = (log_prob_MK[0, CODES_NM[item, 0]] + log_prob_MK[1, CODES_NM[item, 1]]) / 2
            assert scores_N[item] == pytest.approx(wanted, rel=1e-4)


def test_loss_when_one_position_has_a_next_item_then_it_is_less_that_items_score() -> None:
    torch.manual_seed(0)
    network = RPGNetwork(_config(1), CODES_NM).eval()
    with torch.inference_mode():
        loss = network.loss(torch.tensor([[6, 7, 0]]), torch.tensor([2]))
    model = RPG(network, np.zeros(CYCLE, np.float32), _config(1))
    assert float(loss) == pytest.approx(-model.scores([history(6)])[0, 7], rel=1e-4)


def test_network_when_a_code_is_beyond_the_codebooks_then_it_is_refused() -> None:
    # code 9 of the first of two codebooks of 8 would be read as code 1 of the second
    with pytest.raises(ValueError, match="codes must be from 0 to 7, got 0 to 9; set codebook_size"):
        RPGNetwork(_config(1), np.array([[9, 0], [1, 1]]))


def test_rpg_when_the_world_is_a_cycle_then_learns_the_next_item(trained: RPG) -> None:
    found = [slate.items[0] for slate in trained.recommend(requests_for([history(i, i + 1) for i in range(6)], n=1))]
    assert np.mean(np.array(found) == np.arange(6) + 2) > 0.8


def test_rpg_when_saved_and_loaded_then_it_says_the_same_and_keeps_every_promise(trained: RPG, tmp_path: Path) -> None:
    trained.save(tmp_path)
    loaded = RPG.load(tmp_path)
    queries = [history(1, 2), history()]
    np.testing.assert_array_equal(loaded.scores(queries), trained.scores(queries))
    assert_promises(loaded, queries, num_items=CYCLE, n=4, keep_seen=False, ineligible={5})
