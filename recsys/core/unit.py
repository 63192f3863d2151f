"""Rows of unit length, with a gradient of few passes over memory.

Axes: R row, D width.
"""

from typing import Any

import torch
from torch import Tensor

SHORTEST = 1e-12
"""Shorter rows are divided by this, as ``torch.nn.functional.normalize`` does."""


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_RD: Tensor) -> Tensor:
        inverse_R1 = torch.linalg.vector_norm(x_RD, dim=-1, keepdim=True).clamp_min_(SHORTEST).reciprocal_()
        unit_RD = x_RD * inverse_R1
        ctx.save_for_backward(unit_RD, inverse_R1)
        return unit_RD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        unit_RD, inverse_R1 = ctx.saved_tensors
        along_R1 = torch.linalg.vecdot(grads[0], unit_RD).unsqueeze(-1)
        return torch.addcmul(grads[0], unit_RD, along_R1, value=-1).mul_(inverse_R1)


def unit_rows(x_RD: Tensor) -> Tensor:
    """Return rows divided by their lengths: ``functional.normalize``, whose gradient takes twice the time on a CPU."""
    unit_RD: Tensor = _UnitRows.apply(x_RD)  # type: ignore[no-untyped-call]
    return unit_RD
