"""Checks that losses are finite, and clips gradients whose norm overflows."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recsys.core.errors import TrainingError


def require_finite(parts: Mapping[str, float], where: str) -> None:
    """Check a batch's losses.

    >>> require_finite({"item": 1.5}, "epoch 1, batch 2")

    Raises:
        TrainingError: a loss is NaN or infinite; names the batch and its losses.
    """
    if all(math.isfinite(value) for value in parts.values()):
        return
    shown = ", ".join(f"{name} {value:.4g}" for name, value in parts.items())
    raise TrainingError(f"{where}: a loss must be finite, got {shown}; lower the learning rate, or look for odd events")


def clip_gradients(parameters: Sequence[nn.Parameter], most: float) -> Tensor:
    """Scale gradients to a norm of at most ``most`` and return the norm they had.

    Where the norm overflows float32 although every gradient is finite it is computed in float64. PyTorch's
    ``clip_grad_norm_`` divides by an infinite norm then, so that all gradients become 0 and nothing is learned.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if torch.isinf(norm):
        norm = torch.stack([gradient.double().square().sum() for gradient in gradients]).sum().sqrt()
    nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm
