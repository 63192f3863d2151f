"""Bench train: pre-training and its loader, beside a plain loop over padded histories on the same data and model.

Both train the same weights on the same losses: of the next item over the whole catalogue, of tokens and of the
category. The co-occurrence prior is left out, for it would cost both the same. The plain loop draws windows evenly,
pads all to one length, computes the logits of all items in float32 and lets autograd keep them: at every place,
padding included, or only where there is a target.

Axes: B batch row, T time, R training row, N item.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.benches.measure import Line, beside, timed
from pipelines.benches.training_world import TrainingWorld
from recsys.core.arrays import IntArray
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import track
from recsys.model.batches import Batch, cut_windows
from recsys.model.fit import Pretrainer
from recsys.model.precision import LinearLayers

USERS, ITEMS = 6000, 6000
"""Size of the made-up log."""
WARM_UP, STEPS, REPEATS, ASKED = 4, 3, 5, 4
"""Steps before, steps a turn, turns of each loop, and batches that the losses are compared on."""
PRECISIONS = ("fp32 in all layers", "bf16 in all layers", "ladq")
"""Our loop in other precisions than the default; ladq chooses before the last step of the warm-up."""


def bench_train(run: Path | None = None, *, users: int = USERS, items: int = ITEMS, turns: int = REPEATS) -> list[Line]:
    """Train turn by turn on one thread: ours and two plain loops, on a run's log and codes or on a made-up log."""
    torch.set_num_threads(1)
    world = TrainingWorld.of_run(run) if run is not None else TrainingWorld.made_up(users, items)
    loops: dict[str, OwnLoop | PaddedLoop] = {
        "pre-training": OwnLoop(world.trainer()),
        "plain padded loop": PaddedLoop(world.trainer(), everywhere=True),
        "padded, logits at targets": PaddedLoop(world.trainer(), everywhere=False),
    }
    loops |= {name: OwnLoop(trainer) for name, trainer in precisions(world).items()}
    loader = Loader(world.trainer())
    for started in loops.values():
        started.run(WARM_UP)
    took: dict[str, list[float]] = {name: [] for name in (*loops, "loader")}
    for _ in track(range(turns), what="training turn by turn", total=turns):
        turn: list[tuple[str, Loader | OwnLoop | PaddedLoop]] = [*loops.items(), ("loader", loader)]
        for name, loop in turn:
            before = loop.positions
            seconds = timed(lambda: loop.run(1 if loop is loader else STEPS))  # noqa: B023
            took[name].append(1e6 * seconds / (loop.positions - before))
    ours, *peers = [name for name in loops if name not in PRECISIONS]
    lines = [beside(ours, took[ours], took[peer], peer_name=peer, unit="us a position") for peer in peers]
    lines.append(beside("loader alone", took["loader"], took[ours], peer_name=ours, unit="us a position"))
    base, *others = PRECISIONS
    lines += [beside(what, took[what], took[base], peer_name=base, unit="us a position") for what in others]
    speed = {name: 1e6 / float(np.median(each)) for name, each in took.items()}
    loss = {name: loop.item_loss() for name, loop in loops.items()}
    for what, figure, unit in (("positions a second", speed, "1/s"), ("item loss after training", loss, "nats")):
        lines += [Line(what=what, ours=figure[ours], peer=figure[peer], peer_name=peer, unit=unit) for peer in peers]
    lines += [Line(what=f"item loss after training, {what}", ours=loss[what], unit="nats") for what in PRECISIONS]
    trained = {name: float(loop.positions) for name, loop in loops.items()}
    lines += [
        Line(what="positions trained", ours=trained[ours], peer=trained[peer], peer_name=peer, unit="")
        for peer in peers
    ]
    return lines


def precisions(world: TrainingWorld) -> dict[str, Pretrainer]:
    """Return a pre-training for each of :data:`PRECISIONS`."""
    ladq = world.fit.ladq.model_copy(update={"warm_up": WARM_UP - 1, "every": 10**6})
    chosen = replace(world, fit=world.fit.model_copy(update={"ladq": ladq}))
    made = (world.trainer("fp32"), world.trainer("bf16"), chosen.trainer("ladq"))
    layers = LinearLayers(made[1].generator)
    layers.set_bf16(set(layers.modules))
    return dict(zip(PRECISIONS, made, strict=True))


class Loader:
    """Batches alone, an epoch a turn: what training waits for."""

    def __init__(self, trainer: Pretrainer) -> None:
        self.trainer, self.epoch, self.positions = trainer, 0, 0

    def run(self, steps: int) -> None:
        """Make the batches of so many epochs."""
        for _ in range(steps):
            self.positions += sum(int(batch.lengths_B.sum()) for batch in self.trainer.objective.batches(self.epoch))
            self.epoch += 1


class OwnLoop:
    """Pre-training as the stage ``model`` does it, a few steps at a time."""

    def __init__(self, trainer: Pretrainer) -> None:
        self.trainer, self.batches, self.rng = trainer, endless(trainer), rng_for(0, "bench", "draws")
        self.positions = 0
        trainer.generator.train()

    def run(self, steps: int) -> None:
        """Train some steps."""
        for batch in islice(self.batches, steps):
            self.positions += int(batch.lengths_B.sum())
            if self.trainer.controller is not None:
                self.trainer.controller.before(batch)
            self.trainer.step(self.trainer.objective.losses(batch, self.rng), "bench train")

    def item_loss(self) -> float:
        """Return the item head's loss on the same batches for all loops, without dropout."""
        return item_loss_of(self.trainer)


class PaddedLoop:
    """The plain loop; ``everywhere`` also computes logits at padding, as a mask in the loss then has to undo."""

    def __init__(self, trainer: Pretrainer, *, everywhere: bool) -> None:
        self.trainer, self.everywhere, self.rng = trainer, everywhere, rng_for(0, "bench", "padded")
        self.longest = trainer.generator.shape.max_history
        self.log = trainer.objective.folds[0].log
        self.starts_W, self.lengths_W = cut_windows(self.log, self.longest, self.rng)
        self.rows = max(1, round(trainer.config.batch_positions / self.lengths_W.mean()))
        self.positions = 0
        trainer.generator.train()

    def run(self, steps: int) -> None:
        """Train some steps, each on as many windows as hold a batch's positions on average."""
        for _ in range(steps):
            drawn = self.rng.choice(len(self.starts_W), self.rows)
            self.positions += int(self.lengths_W[drawn].sum())
            self.trainer.step(self.losses(self.starts_W[drawn], self.lengths_W[drawn]), "bench train")

    def item_loss(self) -> float:
        """Return the item head's loss on the same batches for all loops, without dropout."""
        return item_loss_of(self.trainer)

    def losses(self, starts_B: IntArray, lengths_B: IntArray) -> dict[str, Tensor]:
        """Return the losses of :meth:`TrainingObjective.losses` by dense logits that autograd keeps."""
        objective, generator = self.trainer.objective, self.trainer.generator
        steps_T = np.arange(self.longest)
        index_BT = np.minimum(starts_B[:, None] + steps_T, len(self.log.items_E) - 1)
        real_BT = torch.from_numpy(steps_T < lengths_B[:, None])
        items_BT = torch.from_numpy(self.log.items_E[index_BT])
        times_BT = torch.from_numpy(self.log.timestamps_E[index_BT])
        vectors_ND = generator.items()
        prefixes = generator.encode_prefixes(items_BT[:, :-1], times_BT[:, :-1], vectors_ND)
        row_R, time_R = torch.nonzero(torch.ones_like(real_BT) if self.everywhere else real_BT, as_tuple=True)
        target_R, real_R = items_BT[row_R, time_R], real_BT[row_R, time_R]
        states = prefixes.after(row_R, time_R)
        logits_RN = generator.head.logits(states, generator.head.keys(vectors_ND), [])
        before_RT = torch.arange(self.longest) < time_R[:, None]
        seen_RT = torch.where(before_RT, items_BT[row_R], target_R[:, None])
        own_R1 = logits_RN.gather(1, target_R[:, None])
        logits_RN = logits_RN.index_fill(1, objective.unused_X, float("-inf")).scatter(1, seen_RT, float("-inf"))
        logits_RN = logits_RN.scatter(1, target_R[:, None], own_R1)
        losses = {"item": functional.cross_entropy(logits_RN, target_R.masked_fill(~real_R, -100))}
        picked_R = torch.from_numpy(self.rng.random(len(target_R)) < self.trainer.config.token_share) & real_R
        prob_RN = logits_RN.detach()[picked_R].softmax(-1)
        share = self.trainer.config.distillation
        state_RD = states.own_BD[picked_R]
        return losses | objective.path_losses(state_RD, target_R[picked_R], self.rng, prob_RN, distillation=share)


def endless(trainer: Pretrainer) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    return chain.from_iterable(trainer.objective.batches(epoch) for epoch in count())


@torch.no_grad()
def item_loss_of(trainer: Pretrainer) -> float:
    """Return the item head's loss in float32 on some batches of an epoch that is never trained, without dropout."""
    objective, generator = trainer.objective, trainer.generator
    generator.eval()
    batches = islice(objective.batches(derive_seed(0, "bench", "asked")), ASKED)
    rng = rng_for(0, "bench", "asked")
    losses = [float(objective.item_losses(batch, rng)["item"]) for batch in batches]
    generator.train()
    return float(np.mean(losses))
