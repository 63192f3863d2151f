"""The moving average of weights, against one computed by hand."""

import pytest
import torch
from torch import nn

from recsys.core.averaging import WeightAverage


def _network(value: float) -> nn.Linear:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def _value(network: nn.Linear) -> float:
    return float(network.weight.detach())


def test_update_when_steps_are_taken_then_the_average_follows_more_slowly_at_each() -> None:
    network = _network(0.0)
    average = WeightAverage(network, decay=0.2)
    for value in (1.0, 2.0):
        nn.init.constant_(network.weight, value)
        average.update()
    # step 1: decay min(.2, 2 / 11) = 2 / 11, so 0 + 9 / 11; step 2: decay min(.2, 3 / 12) = .2, so .2 x 9 / 11 + .8 x 2
    assert float(average.averages[0]) == pytest.approx(0.2 * 9 / 11 + 0.8 * 2)


def test_in_place_when_the_block_ends_then_the_networks_own_weights_are_back() -> None:
    network = _network(0.0)
    average = WeightAverage(network, decay=0.9)
    nn.init.constant_(network.weight, 11.0)
    average.update()
    with average.in_place():
        assert _value(network) == pytest.approx(9.0)  # decay 2 / 11 after one step
    assert _value(network) == 11.0
    average.take()
    assert _value(network) == pytest.approx(9.0)


def test_state_when_loaded_then_the_average_goes_on_as_it_would_have() -> None:
    one, other = _network(3.0), _network(0.0)
    first, second = WeightAverage(one, decay=0.5), WeightAverage(other, decay=0.5)
    nn.init.constant_(one.weight, 7.0)
    first.update()
    second.load_state_dict(first.state_dict())
    for network, average in ((one, first), (other, second)):
        nn.init.constant_(network.weight, 4.0)
        average.update()
    assert torch.equal(first.averages[0], second.averages[0])
