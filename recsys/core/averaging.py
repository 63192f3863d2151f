"""An exponential moving average of a network's weights (Polyak and Juditsky 1992)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of a network's weights over its latest steps, in which older steps count exponentially less.

    Early on it is over fewer steps: after n steps the decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.averages = [weight.detach().clone() for weight in network.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of the step that the network has just made into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, weight in zip(self.averages, self.network.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the network within the block, and its own weights back afterwards."""
        trained = [weight.detach().clone() for weight in self.network.parameters()]
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(trained)

    def take(self) -> None:
        """Put the average into the network for good."""
        self._put(self.averages)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"steps": self.steps, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.steps = state["steps"]
        for average, value in zip(self.averages, state["averages"], strict=True):
            average.copy_(value)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for weight, value in zip(self.network.parameters(), values, strict=True):
            weight.copy_(value)
