"""Precision by layer: sensitivities against sums over positions one can read, and what the budget allows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from recsys.core.seeds import rng_for
from recsys.model.config import FitConfig, LadqConfig
from recsys.model.fit import Pretrainer
from recsys.model.ladq import SOFTMAX, LayerCost, PrecisionController, choose
from recsys.model.precision import ROUNDING, LinearLayers, sensitivity
from tests.support.cycle_world import cycle_log, tiny_generator


def _cost(layer: str, sensitivity: float, saved: float) -> LayerCost:
    return LayerCost(layer=layer, sensitivity=sensitivity, seconds_fp32=10.0, seconds_bf16=10.0 - saved, share=0.1)


def _trainer(precision: str = "ladq", **ladq: float) -> Pretrainer:
    config = FitConfig(epochs=1, final_epochs=0, batch_positions=64, ladq=LadqConfig(**{"warm_up": 3, **ladq}))
    category_N = np.arange(20) % 3
    return Pretrainer(tiny_generator(), cycle_log(), category_N, config, seed=1, precision=precision)  # type: ignore[arg-type]


def _all_faster(controller: PrecisionController, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every layer take two seconds in fp32 and one in bf16."""
    seconds = iter([2.0, 1.0] * 100)
    monkeypatch.setattr(controller, "_seconds", lambda _: next(seconds))


def _controller(trainer: Pretrainer) -> PrecisionController:
    assert trainer.controller is not None
    return trainer.controller


def test_traces_when_compared_with_a_loop_over_positions_then_are_equal() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x_RD, target_R = torch.randn(7, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    with LinearLayers(network).watched() as traces:
        functional.cross_entropy(network(x_RD), target_R).backward()
    squares = {"0": [0.0, 0.0], "2": [0.0, 0.0]}
    for x_D, target in zip(x_RD, target_R, strict=True):
        inner = network[0](x_D).detach().requires_grad_()
        hidden = torch.tanh(inner)
        outer = network[2](hidden)
        g_inner, g_outer = torch.autograd.grad(functional.cross_entropy(outer, target), [inner, outer])
        for name, a, g in (("0", x_D, g_inner), ("2", hidden, g_outer)):
            squares[name][0] += float(a.detach().square().sum()) / 7
            squares[name][1] += float(g.square().sum()) / 7
    for name, (trace_a, trace_g) in squares.items():
        assert traces[name].of(7) == pytest.approx((trace_a, trace_g), rel=1e-5)


def test_sensitivity_when_rounding_errors_are_drawn_then_is_the_mean_rise_of_the_loss() -> None:
    # one layer, whose answers are drawn from its own softmax: there the mean gradient is 0, and E[g g^T] the curvature
    rng = torch.Generator().manual_seed(0)
    weight, x_RD = torch.randn(6, 8, generator=rng), torch.randn(4000, 8, generator=rng)
    logits = x_RD @ weight.T / 4
    prob = logits.softmax(1)
    target_R = torch.multinomial(prob, 1, generator=rng)[:, 0]
    g_R = (prob - functional.one_hot(target_R, 6)) / 4
    trace_a, trace_g = float(x_RD.square().sum(1).mean()), float(g_R.square().sum(1).mean())
    scale = 50 * ROUNDING  # errors fifty times those of bf16, so that the rise stands out of float32's noise

    def noisy(values: torch.Tensor) -> torch.Tensor:
        return values * (1 + scale * torch.randn(values.shape, generator=rng))

    rises = []
    for _ in range(200):
        changed = noisy(x_RD) @ noisy(weight).T / 4
        rises.append((prob * (logits.log_softmax(1) - changed.log_softmax(1))).sum(1).mean())
    expected = 50**2 * sensitivity(weight, trace_a, trace_g)
    assert float(torch.stack(rises).mean()) == pytest.approx(expected, rel=0.3)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(-3, 3)), max_size=8),
    st.floats(0, 10),
)
def test_choose_when_layers_are_any_then_the_budget_is_kept_and_slower_ones_stay(
    layers: list[tuple[float, float]], budget: float
) -> None:
    costs = [_cost(str(place), *layer) for place, layer in enumerate(layers)]
    chosen = choose(costs, budget)
    assert sum(cost.sensitivity for cost in chosen) <= budget + 1e-9
    assert all(cost.seconds_bf16 < cost.seconds_fp32 for cost in chosen)


def test_choose_when_the_budget_is_short_then_most_seconds_for_the_sensitivity_win() -> None:
    # per unit of sensitivity a saves 2, b 1 and c 1 seconds; 2 + 2 is over 3, 2 + 1 is not
    costs = [_cost("b", 2.0, 2.0), _cost("c", 1.0, 1.0), _cost("a", 2.0, 4.0)]
    assert [cost.layer for cost in choose(costs, 3.0)] == ["a", "c"]


def test_bf16_when_set_then_products_are_rounded_and_gradients_reach_the_fp32_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64))
    x = torch.randn(5, 64)
    exact = network(x)
    layers = LinearLayers(network)
    layers.set_bf16({"0"})
    low = network(x)
    low.sum().backward()
    assert low.dtype == torch.float32
    assert 0 < float((low - exact).detach().abs().max()) < 0.05
    assert network[0].weight.grad is not None
    assert network[0].weight.grad.dtype == torch.float32
    layers.set_bf16(set())
    assert torch.equal(network(x), exact)


def test_decide_when_one_layer_is_sensitive_then_it_stays_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    # all layers are said to be faster in bf16, and the weights of one are a thousand times those it started with
    trainer = _trainer(budget=3e-5)
    controller = _controller(trainer)
    _all_faster(controller, monkeypatch)
    monkeypatch.setattr(controller, "_change", lambda *_: 0.0)
    batch = next(trainer.objective.batches(0))
    for one in trainer.objective.batches(0):
        trainer.step(trainer.objective.losses(one, rng_for(0, "test")), "a test")
    assert "decoder.token_head" in controller.decide(batch).bf16
    with torch.no_grad():
        trainer.generator.decoder.token_head.weight *= 1000
    decision = controller.decide(batch)
    costs = {cost.layer: cost.sensitivity for cost in decision.layers}
    assert max(costs, key=lambda layer: costs[layer]) == "decoder.token_head"
    assert "decoder.token_head" not in decision.bf16
    assert decision.expected_rise == pytest.approx(sum(costs[layer] for layer in decision.bf16))
    assert decision.expected_rise <= decision.budget
    assert len(decision.bf16) > 3


def test_decide_when_the_measured_loss_moves_too_far_then_the_most_sensitive_layers_return_to_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the loss is said to move by as much as there are layers in bf16, and may move by 3 of a loss of about 10
    trainer = _trainer(budget=0.3)
    controller = _controller(trainer)
    _all_faster(controller, monkeypatch)
    monkeypatch.setattr(controller, "_change", lambda _batch, chosen, _loss: float(len(chosen)))
    decision = controller.decide(next(trainer.objective.batches(0)))
    kept = sorted(cost.sensitivity for cost in decision.layers)[: len(decision.bf16)]
    assert 0 < len(decision.bf16) == decision.measured_change <= decision.budget
    assert decision.expected_rise == pytest.approx(sum(kept))


def test_decide_when_the_budget_is_nothing_then_all_stays_in_fp32() -> None:
    trainer = _trainer(budget=0.0)
    decision = _controller(trainer).decide(next(trainer.objective.batches(0)))
    assert decision.bf16 == ()
    assert {cost.layer for cost in decision.layers} >= {SOFTMAX, "decoder.token_head", "items.code_projection"}


def test_ladq_when_nothing_may_be_rounded_then_training_is_that_in_fp32() -> None:
    # measuring leaves weights, gradients and random streams as they were
    fp32, ladq = _trainer("fp32"), _trainer("ladq", budget=0.0, every=2)
    assert fp32.run_epoch(0) == ladq.run_epoch(0)
    for ours, theirs in zip(fp32.generator.parameters(), ladq.generator.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    steps = [decision.step for decision in _controller(ladq).decisions]
    assert steps == list(range(3, ladq.batches, 2))


def test_controller_when_restored_then_goes_on_with_its_choices() -> None:
    trainer = _trainer(every=1)
    trainer.run_epoch(0)
    controller, again = _controller(trainer), _controller(_trainer())
    again.load_state_dict(controller.state_dict())
    assert again.step == trainer.batches
    assert again.decisions == controller.decisions
