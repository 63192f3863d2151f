"""The loop of sequence networks: clipped gradients, and an early end that a resumed training keeps to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recsys.sequence.training import TrainingConfig, train_best_epoch

LENGTHS = np.array([2, 2, 2])


def _train(network: nn.Linear, config: TrainingConfig, figures: list[float], checkpoint: Path | None = None) -> int:
    """Train on a steep loss and return how many validations there were."""
    asked: list[float] = []

    def validate() -> float:
        asked.append(figures[len(asked)])
        return asked[-1]

    def loss(*_: object) -> Tensor:
        return 100 * network.weight.sum()

    rng = np.random.default_rng(0)
    train_best_epoch(
        network, config, rng, lengths=LENGTHS, loss=loss, validate=validate, name="toy", checkpoint=checkpoint
    )
    return len(asked)


@pytest.mark.parametrize(("clip", "norm"), [(0.0, 200.0), (0.5, 0.5)])
def test_training_when_gradients_are_clipped_then_their_norm_is_the_bound(clip: float, norm: float) -> None:
    # each of the four weights has the gradient 100: together a norm of 100 * sqrt(4) = 200
    network = nn.Linear(2, 2, bias=False)
    _train(network, TrainingConfig(epochs=1, gradient_clip=clip), [0.0])
    assert network.weight.grad is not None
    assert float(network.weight.grad.norm()) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize(("most", "passes"), [(0, 5), (1, 1), (7, 2), (100, 5)])
def test_training_when_steps_are_limited_then_whole_epochs_within_them_are_run(most: int, passes: int) -> None:
    # three sequences of two positions in batches of two: three steps an epoch, so seven steps hold two epochs
    config = TrainingConfig(epochs=5, batch_positions=2, validate_every=1, max_steps=most)
    figures = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert _train(nn.Linear(2, 2, bias=False), config, figures) == passes


def test_training_when_steps_are_limited_then_the_rate_ends_with_the_last_epoch() -> None:
    # nine steps as five epochs of which three are within the limit, and as three epochs: the same weights
    trained = []
    for config in (TrainingConfig(epochs=5, max_steps=9), TrainingConfig(epochs=3)):
        torch.manual_seed(0)
        network = nn.Linear(2, 2, bias=False)
        limited = config.model_copy(update={"batch_positions": 2, "validate_every": 1})
        _train(network, limited, [0.1, 0.2, 0.3])
        trained.append(network.weight.detach())
    torch.testing.assert_close(trained[0], trained[1], rtol=0, atol=0)


def test_training_when_it_ended_early_and_is_started_again_then_it_does_not_go_on(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=9, validate_every=1, patience=2)
    checkpoint = tmp_path / "checkpoint.pt"
    torch.manual_seed(0)
    network = nn.Linear(2, 2, bias=False)
    assert _train(network, config, [0.3, 0.2, 0.1], checkpoint) == 3  # the best comes first, two more are waited for
    again = nn.Linear(2, 2, bias=False)
    assert _train(again, config, [], checkpoint) == 0
    torch.testing.assert_close(again.weight, network.weight, rtol=0, atol=0)
