"""How a bench is measured and written: repeats turn by turn, ratios with intervals, the machine beside them.

Axes: R repeat.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from recsys.core.seeds import rng_for


@dataclass(frozen=True, kw_only=True)
class Line:
    """One comparison; ``ratio`` is peer over ours, so that above one means ours is better at less of the unit."""

    what: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    unit: str = "s"
    figure: str = ""
    """Which of several figures of ``what`` it is; Markdown then has a row for each ``what``, a column for each."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a bench ran."""

    cores: int
    processor: str
    system: str
    python: str
    torch: str
    recsys: str
    accelerator: str | None = None
    """The name of the first CUDA device, if there is one."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The lines of one bench and the machine that measured them."""

    name: str
    machine: Machine
    rows: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as ``recsys bench --json`` writes it."""
        return asdict(self)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def beside(what: str, ours: Sequence[float], peer: Sequence[float], *, peer_name: str, unit: str) -> Line:
    """Compare repeats that were measured turn by turn: medians, and a bootstrap interval of their ratio."""
    ours_R, peer_R = np.array(ours), np.array(peer)
    rng = rng_for(0, "bench", what)
    drawn = rng.integers(len(ours_R), size=(1000, len(ours_R)))
    ratios = np.median(peer_R[drawn], axis=1) / np.median(ours_R[drawn], axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return Line(
        what=what,
        ours=float(np.median(ours_R)),
        peer=float(np.median(peer_R)),
        peer_name=peer_name,
        ratio=float(np.median(peer_R) / np.median(ours_R)),
        ratio_low=float(low),
        ratio_high=float(high),
        unit=unit,
    )


def as_result(name: str, lines: Sequence[Line]) -> Bench:
    """Return a bench of these lines on this machine."""
    machine = Machine(
        cores=os.cpu_count() or 1,
        processor=platform.machine(),
        system=platform.system(),
        python=platform.python_version(),
        torch=version("torch"),
        recsys=version("recsys"),
        accelerator=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    )
    return Bench(name=name, machine=machine, rows=tuple(lines))
