"""The benches by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.benches.batch import bench_batch, bench_batch_memory, parse_size
from pipelines.benches.codes import bench_codes
from pipelines.benches.cold import bench_cold
from pipelines.benches.curves import bench_curves
from pipelines.benches.days import OVERRIDES, Schedule, bench_days
from pipelines.benches.decode import bench_decode
from pipelines.benches.encode import bench_encode
from pipelines.benches.evidence import bench_evidence
from pipelines.benches.generate import bench_generate
from pipelines.benches.gpu import bench_gpu
from pipelines.benches.ladq import bench_ladq
from pipelines.benches.large_log import MadeUpSize
from pipelines.benches.measure import Bench, Line, as_result
from pipelines.benches.off_policy import bench_off_policy
from pipelines.benches.pruning import bench_pruning
from pipelines.benches.scale import FULL, bench_scale
from pipelines.benches.serve import bench_serve
from pipelines.benches.slates import bench_slates
from pipelines.benches.soak import SECONDS, bench_soak
from pipelines.benches.tokens import bench_tokens
from pipelines.benches.train import bench_train
from pipelines.benches.valid import bench_valid
from pipelines.display import shown_as
from pipelines.recipe import load_recipe
from recsys.core.errors import CallError


@dataclass(frozen=True, kw_only=True)
class BenchCall:
    """Options of the benches; each reads those that it needs."""

    run: Path | None = None
    """The run to measure."""
    size: str | None = None
    """Users, events and items of the log of ``scale``; items and users of ``batch``."""
    data: Path | None = None
    """The data set that ``gpu`` and ``days`` train on."""
    recipe: str = "default"
    """How ``days`` trains."""
    overrides: tuple[str, ...] = ()
    """Settings of that recipe, ``section.key=value``."""
    every: int = 1
    """How many days lie between two full trainings of ``days``."""
    to: Path | None = None
    """Where ``days`` keeps its runs, and ``scale`` its logs and runs."""
    length: int = 1
    """Days of the log that make one day of ``days``."""
    seconds: float | None = None
    """That ``soak`` takes."""


def run_bench(name: str, call: BenchCall) -> Bench:
    """Run one bench, on a run where it measures one.

    Raises:
        CallError: there is no such bench, it needs a run or a data set, or the size is none.
    """
    run, data = call.run, call.data
    benches: dict[str, Callable[[], list[Line]]] = {
        "encode": bench_encode,
        "decode": lambda: [*bench_decode(run), *(bench_generate(run) if run else [])],
        "valid": lambda: [*bench_valid(), *bench_slates()],
        "tokens": bench_tokens,
        "batch": lambda: bench_batch() if call.size is None else bench_batch(parse_size(call.size)),
        "batch-memory": bench_batch_memory,
        "codes": lambda: bench_codes(_required(run, name)),
        "cold": lambda: bench_cold(_required(run, name)),
        "curves": lambda: bench_curves(_required(run, name)),
        "evidence": lambda: bench_evidence(_required(run, name)),
        "serve": lambda: bench_serve(_required(run, name)),
        "soak": lambda: bench_soak(_required(run, name), seconds=call.seconds or SECONDS),
        "off-policy": bench_off_policy,
        "train": lambda: bench_train(run),
        "ladq": lambda: bench_ladq(_required(run, name)),
        "days": lambda: bench_days(
            _data(data, name),
            load_recipe(call.recipe, (*OVERRIDES, *call.overrides)),
            Schedule(every=call.every, length=call.length),
            runs=call.to,
        ),
        "pruning": lambda: bench_pruning(_required(run, name)),
        "gpu": lambda: bench_gpu(data),
        "scale": lambda: bench_scale(FULL if call.size is None else MadeUpSize.parse(call.size), kept=call.to),
    }
    if name not in benches:
        raise CallError(f"bench must be one of {', '.join(benches)}, got {name!r}")
    with shown_as(f"bench {name}"):
        lines = benches[name]()
    return as_result(name, lines)


def _data(data: Path | None, name: str) -> Path:
    if data is None:
        raise CallError(f"bench {name} must have a data set, got none; add --data FOLDER")
    return data


def _required(run: Path | None, name: str) -> Path:
    if run is None:
        raise CallError(f"bench {name} must have a run, got none; add --run RUN")
    return run
