"""One training of a network: its steps, the best weights so far, and the checkpoint from which it goes on."""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from recsys.core.artifacts import atomic_file
from recsys.core.averaging import WeightAverage
from recsys.core.errors import ArtifactError
from recsys.core.finite import clip_gradients, require_finite
from recsys.core.workers import Workers, weighted

_SAVED: ContextVar[Callable[[Path], None] | None] = ContextVar("saved", default=None)


@contextmanager
def saving_to(listener: Callable[[Path], None]) -> Iterator[None]:
    """Call a function with the path of every checkpoint that is written in the block, once it is whole."""
    token = _SAVED.set(listener)
    try:
        yield
    finally:
        _SAVED.reset(token)


class Stateful(Protocol):
    """What a checkpoint keeps beside a training, in plain values."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it needs to go on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        ...


class Training:
    """A network with its AdamW optimizer and learning rate, and how far it is.

    What it holds is what :meth:`save` writes: a training that is restored goes on as if it had not been killed.
    Several workers that hold the same training take every step together (recsys/core/workers.py).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        share_of_rate: Callable[[int], float],
        clip: float = 0.0,
        draws: np.random.Generator | None = None,
    ) -> None:
        self.network, self.clip, self.draws = network, clip, draws
        self.workers = Workers.here()
        self.workers.start_alike(network)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, share_of_rate)
        self.epochs_done = 0
        self.beside: Stateful | None = None
        """What checkpoints keep beside the training."""
        self.log: list[dict[str, float]] = []
        """One line of figures an epoch, for those who keep them."""
        self.best = -1.0
        self.stale = 0
        """Validations since the best one."""
        self._kept: dict[str, Tensor] = {}
        self.average: WeightAverage | None = None

    def average_weights(self, decay: float) -> None:
        """Average the weights over steps from here on, with this decay a step; what validates best is an average."""
        self.average = WeightAverage(self.network, decay)

    def step(self, loss: Tensor, parts: Mapping[str, float], where: str, *, weight: float = 1.0) -> Mapping[str, float]:
        """Take one optimizer step on a batch's loss, and return its parts for the whole batch.

        Args:
            loss: the mean over this worker's share of the batch.
            parts: what it is the sum of, to be checked and returned.
            where: names the batch.
            weight: which part of the batch's targets the share holds.

        Raises:
            TrainingError: a part of the loss is no finite number; ``where`` names the batch.
        """
        parts = self.workers.added(parts, weight, loss.device)
        require_finite(parts, where)
        self.optimizer.zero_grad(set_to_none=True)
        weighted(loss, weight).backward()
        self.workers.add_gradients(self.network.parameters())
        if self.clip:
            clip_gradients(list(self.network.parameters()), self.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update()
        return parts

    def averaged(self) -> AbstractContextManager[None]:
        """Put the averaged weights into the network within a block; without an average nothing is done."""
        return nullcontext() if self.average is None else self.average.in_place()

    def keep_if_best(self, score: float) -> None:
        """Keep a copy of the weights if their score is the highest so far."""
        self.stale += 1
        if score > self.best:
            self.stale, self.best = 0, score
            self._kept = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def take_best(self) -> None:
        """Put the kept weights into the network; without any the averaged ones, and without an average it stays."""
        if self._kept:
            self.network.load_state_dict(self._kept)
        elif self.average is not None:
            self.average.take()

    def save(self, path: Path) -> None:
        """Write the checkpoint, under a temporary name first, so that a kill leaves the one before.

        Of several workers the first one writes; all hold the same.

        Raises:
            ArtifactError: the disk does not take it.
        """
        if not self.workers.first:
            return
        device = next(self.network.parameters()).device
        state = {
            "epochs_done": self.epochs_done,
            "log": self.log,
            "best": self.best,
            "stale": self.stale,
            "kept": self._kept,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "beside": None if self.beside is None else self.beside.state_dict(),
            "draws": None if self.draws is None else json.dumps(self.draws.bit_generator.state),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        try:
            with atomic_file(path) as temporary:
                torch.save(state, temporary)
        except (RuntimeError, OSError) as error:  # torch says neither which file nor that it was the disk
            raise ArtifactError(
                f"{path} must be written, but its disk does not take it ({str(error).splitlines()[0]}); "
                "free space and run the same command again, it goes on from the checkpoint before"
            ) from error
        if listener := _SAVED.get():
            listener(path)

    def restore(self, path: Path | None) -> bool:
        """Go on from a checkpoint if there is one; return whether there was.

        Raises:
            ArtifactError: the file cannot be read as a checkpoint of this training.
        """
        if path is None or not self.workers.of_first(path.exists()):
            return False
        try:
            first = self.workers.first
            self._take(
                self.workers.of_first(torch.load(path, weights_only=True, map_location="cpu") if first else None)
            )
        except (RuntimeError, KeyError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ArtifactError(
                f"{path} must be a checkpoint of this training, got {type(error).__name__}; "
                "train with --fresh, which forgets checkpoints"
            ) from error
        return True

    def _take(self, state: dict[str, Any]) -> None:
        for part in ("network", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(state[part])
        self.epochs_done, self.log = state["epochs_done"], state["log"]
        self.best, self.stale, self._kept = state["best"], state["stale"], state["kept"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.beside is not None:
            self.beside.load_state_dict(state["beside"])
        if self.draws is not None:
            self.draws.bit_generator.state = json.loads(state["draws"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])
