"""Where tensors live: the one place that picks a GPU."""

from typing import Literal

import torch

Device = Literal["auto", "cpu", "cuda"]


def pick_device(wanted: Device = "auto") -> torch.device:
    """Return CUDA where it is there and not refused, else the CPU."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


Precision = Literal["fp32", "bf16", "auto", "ladq"]
"""The arithmetic of a softmax's matrix products over the catalogue in training; all else is float32.

With ``ladq`` pre-training chooses fp32 or bf16 for each of its layers (recsys/model/ladq.py), others do as ``auto``."""


def product_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type of matrix products; ``auto`` and ``ladq``: bfloat16 where the processor multiplies it."""
    if precision in ("auto", "ladq"):
        fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
