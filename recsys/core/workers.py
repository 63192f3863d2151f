"""The processes that train one network together: each takes a share of every batch, gradients are added up.

A process alone is the only worker; several are those of torch's default process group (gloo or NCCL), which is
opened where the processes are started. All workers draw the same batches and hold the same weights.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from recsys.core.arrays import IntArray
from recsys.core.seeds import derive_seed, rng_for


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one worker takes of a batch."""

    rows: IntArray
    """The rows, at least one."""
    weight: float = 1.0
    """Which part of the batch's targets they hold; the weights of all workers add up to 1."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many workers train together, and which of them this process is."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Workers":
        """Return this process among the workers of torch's default process group; alone without one."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(rank=distributed.get_rank(), count=distributed.get_world_size())

    @property
    def alone(self) -> bool:
        """Whether there is no other worker."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this worker validates and writes for all."""
        return self.rank == 0

    def share(self, rows: IntArray, targets: IntArray) -> Share:
        """Return this worker's share of a batch: every count-th of the rows that have targets, from the rank-th on.

        A worker for whom no row is left takes the first one with weight 0, so that all workers step together.

        Shape:
            rows, targets: (rows,) numbers of rows, and how many targets each has.
        """
        if self.alone:
            return Share(rows=rows)
        useful = targets > 0
        rows, targets = rows[useful], targets[useful]
        mine = rows[self.rank :: self.count]
        if not len(mine):
            return Share(rows=rows[:1], weight=0.0)
        return Share(rows=mine, weight=float(targets[self.rank :: self.count].sum() / targets.sum()))

    def own_draws(self, draws: np.random.Generator) -> np.random.Generator:
        """Return a stream for this worker's share alone, and seed torch's; the common stream stays where it is.

        A process alone keeps its one stream, and torch's.
        """
        if self.alone:
            return draws
        seed = int(deepcopy(draws).integers(2**31))
        torch.manual_seed(derive_seed(seed, "dropout", self.rank))
        return rng_for(seed, "draws", self.rank)

    def start_alike(self, network: nn.Module) -> None:
        """Give every worker the first one's weights."""
        if not self.alone:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, 0)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over workers; a worker whose share has none of a parameter adds zeros."""
        if self.alone:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        if not learning:
            return
        has = torch.tensor([parameter.grad is not None for parameter in learning], device=learning[0].device).int()
        distributed.all_reduce(has)
        waited = []
        for parameter, workers in zip(learning, has.tolist(), strict=True):
            if not workers:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            waited.append(distributed.all_reduce(parameter.grad, async_op=True))
        for one in waited:
            one.wait()

    def added(self, figures: Mapping[str, float], weight: float, device: torch.device) -> dict[str, float]:
        """Return the sums of figures over workers, each times its worker's weight: those of the whole batch."""
        if self.alone:
            return dict(figures)
        together = torch.tensor(list(figures.values()), dtype=torch.float64, device=device) * weight
        distributed.all_reduce(together)
        return dict(zip(figures, together.tolist(), strict=True))

    def of_first(self, value: Any) -> Any:
        """Return what the first worker has: what a checkpoint holds, or a validation's figure."""
        if self.alone:
            return value
        held: list[Any] = [value]
        distributed.broadcast_object_list(held, 0)
        return held[0]


ALONE = Workers()
"""A process without others."""


def weighted(loss: Tensor, weight: float) -> Tensor:
    """Return a share's loss as its part of the whole batch's; with weight 1 the loss itself."""
    return loss if weight == 1 else loss * weight
