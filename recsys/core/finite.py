"""Stops a training whose loss is no number, and says where."""

import math
from collections.abc import Mapping

from recsys.core.errors import TrainingError


def require_finite(parts: Mapping[str, float], where: str) -> None:
    """Check a batch's losses.

    >>> require_finite({"item": 1.5}, "epoch 1, batch 2")

    Raises:
        TrainingError: a loss is NaN or infinite; names the batch and its losses.
    """
    if all(math.isfinite(value) for value in parts.values()):
        return
    said = ", ".join(f"{name} {value:.4g}" for name, value in parts.items())
    raise TrainingError(f"{where}: a loss must be finite, got {said}; lower the learning rate, or look for odd events")
