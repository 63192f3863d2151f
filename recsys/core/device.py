"""Where tensors live: the one place that asks for a GPU."""

from typing import Literal

import torch

Device = Literal["auto", "cpu", "cuda"]


def pick_device(wanted: Device = "auto") -> torch.device:
    """Return CUDA where it is there and not refused, else the CPU."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)
