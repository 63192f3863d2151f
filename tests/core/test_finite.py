import pytest
import torch
from torch import nn

from recsys.core.finite import clip_gradients


def _parameters(*gradients: list[float]) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return made


def _gradients(parameters: list[nn.Parameter]) -> list[float]:
    return torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None]).tolist()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e10])
def test_clip_when_the_norm_is_finite_then_is_that_of_torch(scale: float) -> None:
    ours, theirs = (_parameters([3 * scale], [0.0, 4 * scale]) for _ in range(2))
    assert float(clip_gradients(ours, 1.0)) == float(nn.utils.clip_grad_norm_(theirs, 1.0))
    assert _gradients(ours) == _gradients(theirs)


def test_clip_when_the_norm_overflows_float32_then_gradients_keep_their_direction() -> None:
    # the square of 3e25 is no float32; the norm of (3, 4) 1e25 is 5e25
    parameters = _parameters([3e25], [0.0, 4e25])
    assert float(clip_gradients(parameters, 1.0)) == pytest.approx(5e25, rel=1e-5)
    assert _gradients(parameters) == pytest.approx([0.6, 0.0, 0.8], rel=1e-5)
