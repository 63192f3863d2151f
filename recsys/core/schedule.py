"""The course of a learning rate over a training."""

import math
from collections.abc import Callable


def warm_cosine(*, total: int, warm: int) -> Callable[[int], float]:
    """Return a learning rate's factor by step: up evenly over ``warm`` steps, then along a cosine to 0 at ``total``."""
    return lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))))
