"""What a piece of work takes: seconds, processor seconds and the largest resident size meanwhile."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(kw_only=True)
class Usage:
    """What the measured block took; set when it ends."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: int = 0


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure a block in this process; on Linux the peak is of the block alone, elsewhere of the process so far."""
    usage = Usage()
    _reset_peak()
    began, worked = time.perf_counter(), time.process_time()
    try:
        yield usage
    finally:
        usage.seconds = round(time.perf_counter() - began, 2)
        usage.cpu_seconds = round(time.process_time() - worked, 2)
        usage.peak_memory_mb = peak_memory_mb()


def peak_memory_mb() -> int:
    """Return the largest resident size since the last :func:`measured` began, in MiB."""
    try:
        lines = _STATUS.read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024)
    except (OSError, StopIteration):
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def tree_memory_mb(process: int) -> float:
    """Return the memory of a process and all below it in MiB, pages that several share counted once; 0 off Linux.

    Processes that end meanwhile count nothing.
    """
    held, below = _read(Path(f"/proc/{process}/smaps_rollup")), Path(f"/proc/{process}/task")
    own = next((int(line.split()[1]) / 1024 for line in held.splitlines() if line.startswith("Pss:")), 0.0)
    children = [child for task in below.glob("*/children") for child in _read(task).split()]
    return own + sum(tree_memory_mb(int(child)) for child in children)


def _read(path: Path) -> str:
    """Return a file's text, nothing where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _reset_peak() -> None:
    """Let the kernel count the peak from here on (proc(5): writing 5 to clear_refs); elsewhere nothing happens."""
    try:
        _RESET.write_text("5")
    except OSError:
        return
