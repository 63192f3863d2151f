"""The precision of each layer of pre-training, chosen while it trains (LADQ).

Every ``every`` steps the controller takes one batch, measures the sensitivity of each linear layer
(recsys/model/precision.py) and the seconds that it takes in fp32 and in bf16, and gives bf16 to the layers that save
most seconds for their sensitivity, as long as the sensitivities add up to no more than the budget. Then it measures
the loss of the batch in both ways; where that moved by more than the budget, the most sensitive layers return to fp32.
The item softmax is a layer whose weights are the item vectors. Since times are measured, two runs may choose
differently.

Axes: R training row, N item, D width.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG
from recsys.core.workers import Workers
from recsys.model.batches import Batch
from recsys.model.config import LadqConfig
from recsys.model.item_head import LogitTerms
from recsys.model.losses import ItemQueries, item_loss, item_softmax
from recsys.model.precision import LinearLayers, Traces, in_bf16, sensitivity
from recsys.model.training_objective import TrainingObjective

SOFTMAX = "item softmax"
"""The name under which the products of the item softmax are chosen for."""
SAMPLED_ROWS = 256
"""Rows on which the item softmax is measured."""


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """A layer's sensitivity, its seconds a step (forward and backward) in both precisions, and its share of a step."""

    layer: str
    sensitivity: float
    seconds_fp32: float
    seconds_bf16: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was chosen before a step: the layers in bf16, and why.

    The budget, the sum of the sensitivities of those layers and the measured change are in units of the loss.
    """

    step: int
    loss: float
    budget: float
    expected_rise: float
    measured_change: float
    bf16: tuple[str, ...]
    layers: tuple[LayerCost, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the decision as ``training.json`` holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Decision":
        """Return a decision from what :meth:`to_json` returned."""
        layers = tuple(LayerCost(**cost) for cost in values["layers"])
        return cls(**{**values, "bf16": tuple(values["bf16"]), "layers": layers})


def choose(costs: Sequence[LayerCost], budget: float) -> list[LayerCost]:
    """Return the layers for bf16: those faster in it, most seconds saved for their sensitivity first.

    Their sensitivities add up to no more than the budget.

    With a budget of 3 and layers of sensitivity 2, 2 and 1 that save 4, 2 and 1 seconds, the first and the last.
    """
    faster = [cost for cost in costs if cost.seconds_bf16 < cost.seconds_fp32]
    chosen: list[LayerCost] = []
    left = budget
    for cost in sorted(faster, key=lambda one: one.sensitivity / (one.seconds_fp32 - one.seconds_bf16)):
        if cost.sensitivity <= left:
            chosen.append(cost)
            left -= cost.sensitivity
    return chosen


class PrecisionController:
    """Chooses the precision of every layer of a generator's pre-training, and keeps its decisions."""

    def __init__(self, objective: TrainingObjective, config: LadqConfig, *, seed: int) -> None:
        self.objective, self.config, self.seed = objective, config, seed
        self.layers = LinearLayers(objective.generator)
        self.decisions: list[Decision] = []
        self.step = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Train in the chosen precision inside, in fp32 outside."""
        try:
            self._set(self.decisions[-1].bf16 if self.decisions else ())
            yield
        finally:
            self._set(())

    def before(self, batch: Batch) -> None:
        """Count a step, and choose anew where it is time to."""
        since = self.step - self.config.warm_up
        if since >= 0 and since % self.config.every == 0:
            workers = Workers.here()  # all do as the first one, whose times are measured
            decision: Decision = workers.of_first(self.decide(batch) if workers.first else None)
            self.decisions.append(decision)
            self._set(decision.bf16)
            LOG.info(
                "ladq step %d: %d of %d layers in bf16, expected rise of the loss %.2e, measured change %.2e",
                *(self.step, len(decision.bf16), len(decision.layers), decision.expected_rise),
                decision.measured_change,
            )
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on."""
        return {"step": self.step, "decisions": [decision.to_json() for decision in self.decisions]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.step = state["step"]
        self.decisions = [Decision.from_json(one) for one in state["decisions"]]

    def decide(self, batch: Batch) -> Decision:
        """Measure a batch and return what to run in bf16; weights, gradients and random streams stay as they were."""
        self._set(())
        costs, loss = self.costs(batch)
        budget = self.config.budget * loss
        chosen = choose(costs, budget)
        change = self._change(batch, chosen, loss)
        while chosen and change > budget:
            keep = len(chosen) // 2
            chosen = sorted(chosen, key=lambda one: one.sensitivity)[:keep]
            change = self._change(batch, chosen, loss)
        self._set(())
        return Decision(
            step=self.step,
            loss=loss,
            budget=budget,
            expected_rise=sum(cost.sensitivity for cost in chosen),
            measured_change=change,
            bf16=tuple(sorted(cost.layer for cost in chosen)),
            layers=tuple(costs),
        )

    def costs(self, batch: Batch) -> tuple[list[LayerCost], float]:
        """Return every layer's sensitivity and times on a batch, and the loss in fp32; all layers must be in fp32."""
        objective = self.objective
        watched: list[tuple[LogitTerms, ItemQueries]] = []
        objective.watch = lambda terms, queries: watched.append((terms.detached(), queries))
        with self.layers.watched() as traces:
            self._loss(batch, backward=True)
        objective.watch = None
        began = time.perf_counter()
        loss = self._loss(batch, backward=True)
        step_seconds = time.perf_counter() - began
        terms, queries = watched[-1]
        positions = len(queries.targets_R)
        costs = [
            self._linear_cost(name, traces[name], positions, step_seconds)
            for name in self.layers.modules
            if traces[name].rows
        ]
        return [*costs, self._softmax_cost(terms, queries, step_seconds)], loss

    def _linear_cost(self, name: str, traces: Traces, positions: int, step_seconds: float) -> LayerCost:
        module = self.layers.modules[name]
        x_RD = traces.latest
        assert x_RD is not None  # a layer with rows has seen an input

        def seconds(forward: Callable[[Tensor], Tensor]) -> float:
            def both_ways() -> None:
                output = forward(x_RD.clone().requires_grad_())
                torch.autograd.grad(output.sum(), [module.weight])

            return self._seconds(both_ways)

        fp32, bf16 = seconds(module.forward), seconds(in_bf16(module))
        scale = traces.rows / len(x_RD)
        return LayerCost(
            layer=name,
            sensitivity=sensitivity(module.weight, *traces.of(positions)),
            seconds_fp32=fp32 * scale,
            seconds_bf16=bf16 * scale,
            share=fp32 * scale / step_seconds,
        )

    def _softmax_cost(self, terms: LogitTerms, queries: ItemQueries, step_seconds: float) -> LayerCost:
        rows = len(queries.targets_R)
        sample = slice(0, SAMPLED_ROWS)
        terms, queries = terms.take(sample), queries.take(sample)
        error_RN = item_softmax(terms, queries)
        error_RN.scatter_add_(1, queries.targets_R[:, None], -torch.ones_like(error_RN[:, :1]))
        sampled = len(queries.targets_R)
        trace_a = float(terms.queries_BD.square().sum()) / sampled
        trace_g = float(error_RN.square().sum()) / sampled
        fp32, bf16 = (
            self._seconds(lambda dtype=dtype: item_loss(terms, queries, dtype=dtype)) * rows / sampled  # type: ignore[misc]
            for dtype in (torch.float32, torch.bfloat16)
        )
        return LayerCost(
            layer=SOFTMAX,
            sensitivity=sensitivity(terms.keys_ND, trace_a, trace_g),
            seconds_fp32=fp32,
            seconds_bf16=bf16,
            share=fp32 / step_seconds,
        )

    def _change(self, batch: Batch, chosen: Sequence[LayerCost], loss: float) -> float:
        """Return by how much the loss of a batch differs from that in fp32 when these layers are in bf16."""
        if not chosen:
            return 0.0
        self._set([cost.layer for cost in chosen])
        return abs(self._loss(batch, backward=False) - loss)

    def _loss(self, batch: Batch, *, backward: bool) -> float:
        """Return the whole loss of a batch, always with the same draws; gradients are thrown away."""
        generator = self.objective.generator
        devices = [generator.device] if generator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.set_grad_enabled(backward):
            torch.manual_seed(self.seed)
            loss = self.objective.total(self.objective.losses(batch, rng_for(self.seed, "ladq", self.step)))
            if backward:
                loss.backward()
                generator.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _seconds(self, work: Callable[[], Any]) -> float:
        """Return the median seconds of some calls, after one that does not count."""
        device = self.objective.generator.device
        took = []
        for _ in range(1 + self.config.repeats):
            began = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            took.append(time.perf_counter() - began)
        return median(took[1:])

    def _set(self, bf16: Sequence[str]) -> None:
        self.layers.set_bf16(frozenset(bf16))
        self.objective.dtype = torch.bfloat16 if SOFTMAX in bf16 else torch.float32
