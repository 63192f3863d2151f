"""Linear layers in fp32 or bf16, one by one, and how much each precision is expected to cost the loss.

A linear layer y = W x whose weights and inputs are rounded to bf16 gets an error of variance about
2 s^2 sum_i (w_i x_i)^2 in each output, where s is the root mean square of a relative rounding error. To second order,
with the curvature of the loss in W approximated by its Kronecker factors A = E[x x^T] and G = E[g g^T] (K-FAC, arXiv
1503.05671; g is a position's gradient in y), and these by their traces, the mean loss then rises by about

    s^2 |W|^2 tr(A) tr(G) / (inputs x outputs),

the layer's sensitivity.

Axes: R row of a layer's input, D width.
"""

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

ROUNDING = 2.0**-9 / 3**0.5
"""Root mean square of the relative error of rounding to bf16, taken as even up to its largest value, 2**-9."""


def sensitivity(weight: Tensor, trace_a: float, trace_g: float) -> float:
    """Return the expected rise of the mean loss when a layer's weights and inputs are rounded to bf16.

    Args:
        weight: (outputs, inputs).
        trace_a: trace of A, the mean squared norm of inputs.
        trace_g: trace of G, the mean squared norm of a position's gradient in the outputs.
    """
    return ROUNDING**2 * float(weight.detach().square().sum()) * trace_a * trace_g / weight.numel()


@dataclass
class Traces:
    """Sums over the rows of a layer in one forward and backward pass, and its latest input."""

    inputs: float = 0.0
    rows: int = 0
    gradients: float = 0.0
    latest: Tensor | None = None

    def see(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add a forward pass, and later the backward pass of a mean loss through it."""
        self.latest = inputs[0].detach().flatten(0, -2)
        self.inputs += float(self.latest.square().sum())
        self.rows += len(self.latest)
        if output.requires_grad:
            output.register_hook(self._see_gradient)

    def _see_gradient(self, gradient: Tensor) -> None:
        self.gradients += float(gradient.square().sum())

    def of(self, positions: int) -> tuple[float, float]:
        """Return the traces of A and G for a loss that is a mean over so many positions.

        A row's gradient of the mean loss is its position's over ``positions``, or a sum of such where a row serves
        several positions; their cross terms are 0 on average. So ``positions`` times the sum of squares is the mean
        over positions of a position's squared gradient.
        """
        return self.inputs / max(1, self.rows), positions * self.gradients


class LinearLayers:
    """The trained linear layers of a network, each run in fp32 or bf16; weights and their gradients stay fp32."""

    def __init__(self, network: nn.Module) -> None:
        self.modules = {
            name: module
            for name, module in network.named_modules()
            if type(module) is nn.Linear and module.weight.requires_grad
        }

    def set_bf16(self, names: Set[str]) -> None:
        """Run these layers in bf16 and all others in fp32."""
        for name, module in self.modules.items():
            module.__dict__.pop("forward", None)
            if name in names:
                module.__dict__["forward"] = in_bf16(module)

    @contextmanager
    def watched(self) -> Iterator[dict[str, Traces]]:
        """Collect the traces of every layer over the passes inside."""
        traces = {name: Traces() for name in self.modules}
        hooks = [module.register_forward_hook(traces[name].see) for name, module in self.modules.items()]
        try:
            yield traces
        finally:
            for hook in hooks:
                hook.remove()


def in_bf16(module: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Return a linear layer's forward with products in bf16 and the result in fp32."""

    def forward(x: Tensor) -> Tensor:
        bias = None if module.bias is None else module.bias.bfloat16()
        return functional.linear(x.bfloat16(), module.weight.bfloat16(), bias).float()

    return forward
