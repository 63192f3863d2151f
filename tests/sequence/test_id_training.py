"""Training an id Transformer further from its weights."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from recsys.data.splits import questions, training_log
from recsys.sequence import id_training
from recsys.sequence.id_training import fit_id_transformer, go_on_training, next_item_loss
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig, score_histories
from recsys.sequence.softmax import catalogue_cross_entropy
from recsys.sequence.validation import mean_ndcg
from tests.support.cycle_world import cycle_log

CONFIG = IdTransformerConfig(width=16, layers=1, max_length=8, epochs=4, validate_every=4, negatives=0)


@pytest.fixture(autouse=True)
def _steady(one_thread: Iterator[None]) -> None:
    """Hold torch to one thread."""


def fitted(epochs: int = CONFIG.epochs) -> IdTransformer:
    config = CONFIG.model_copy(update={"epochs": epochs})
    return fit_id_transformer(training_log(cycle_log()), config, seed=0, name="x", device=torch.device("cpu"))


def ndcg(network: IdTransformer) -> float:
    queries = questions(cycle_log(), "validation")
    return mean_ndcg(lambda batch: score_histories(network, CONFIG, batch), queries.histories, queries.targets_U)


def test_go_on_training_when_there_is_more_to_learn_then_ranks_better_than_at_the_start() -> None:
    network = fitted()
    before = ndcg(network)
    further = CONFIG.model_copy(update={"epochs": 12, "validate_every": 12})
    log = cycle_log()
    go_on_training(network, training_log(log), further, seed=1, name="x", validation=questions(log, "validation"))
    assert ndcg(network) > before


def test_go_on_training_when_it_ranks_worse_then_the_weights_stay_as_they_were() -> None:
    network = fitted(epochs=30)
    assert ndcg(network) > 0.5
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    log = cycle_log()
    # a log whose items all stand still teaches the wrong thing, as fast as it can
    wrong = training_log(log)
    wrong.items_E[:] = 0
    ruin = CONFIG.model_copy(update={"epochs": 3, "learning_rate": 1.0})
    go_on_training(network, wrong, ruin, seed=1, name="x", validation=questions(cycle_log(), "validation"))
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert not network.training


def test_go_on_training_when_twice_from_the_same_weights_then_ends_the_same() -> None:
    ends = []
    for _ in range(2):
        network = go_on_training(fitted(), training_log(cycle_log()), CONFIG, seed=3, name="x")
        ends.append(network.items.weight.detach().numpy().copy())
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize(
    ("named", "wanted"),
    [({}, torch.float32), ({"precision": "fp32"}, torch.float32), ({"precision": "bf16"}, torch.bfloat16)],
)
def test_training_when_no_precision_is_named_then_products_are_in_float32(
    named: dict[str, Any], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def spy(*parts: Any, dtype: torch.dtype) -> torch.Tensor:
        seen.add(dtype)
        return catalogue_cross_entropy(*parts, dtype=dtype)

    monkeypatch.setattr(id_training, "catalogue_cross_entropy", spy)
    log, config = training_log(cycle_log()), CONFIG.model_copy(update={"epochs": 1, "negatives": 0})
    network = fit_id_transformer(log, config, seed=0, name="x", device=torch.device("cpu"), **named)
    go_on_training(network, log, config, seed=0, name="x", **named)
    assert seen == {wanted}


@pytest.mark.parametrize("logits", ["cosine", "dot"])
def test_next_item_loss_when_all_items_count_then_it_is_the_cross_entropy_of_the_networks_logits(logits: str) -> None:
    config = CONFIG.model_copy(update={"logits": logits, "dropout": 0.0})
    network = IdTransformer(config, 7)
    items_BT, lengths_B = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([4, 2])
    loss = next_item_loss(network, items_BT, lengths_B, np.random.default_rng(0), 0)
    # targets: 2, 3, 4 of the first window, 6 of the second; what follows is padding
    hidden_RD = network(items_BT[:, :-1])[[0, 0, 0, 1], [0, 1, 2, 0]]
    wanted = functional.cross_entropy(network.logits(hidden_RD), torch.tensor([2, 3, 4, 6]))
    torch.testing.assert_close(loss, wanted)
    grads = [torch.autograd.grad(one, network.items.weight, retain_graph=True)[0] for one in (loss, wanted)]
    torch.testing.assert_close(*grads)
