"""The benches by name."""

from collections.abc import Callable
from pathlib import Path

from pipelines.benches.batch import bench_batch
from pipelines.benches.codes import bench_codes
from pipelines.benches.curves import bench_curves
from pipelines.benches.days import OVERRIDES, bench_days
from pipelines.benches.decode import bench_decode
from pipelines.benches.encode import bench_encode
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


def run_bench(
    name: str,
    run: Path | None,
    *,
    size: str | None = None,
    data: Path | None = None,
    recipe: str = "default",
    seconds: float | None = None,
) -> Bench:
    """Run one bench, on a run where it measures one.

    Args:
        name: which one.
        run: the run to measure.
        size: users, events and items of the log of ``scale``.
        data: the data set that ``gpu`` and ``days`` train on.
        recipe: how ``days`` trains.
        seconds: that ``soak`` takes.

    Raises:
        CallError: there is no such bench, it needs a run, or the size is none.
    """
    benches: dict[str, Callable[[], list[Line]]] = {
        "encode": bench_encode,
        "decode": lambda: bench_decode(run),
        "valid": lambda: [*bench_valid(), *bench_slates()],
        "tokens": bench_tokens,
        "batch": bench_batch,
        "codes": lambda: bench_codes(_required(run, name)),
        "curves": lambda: bench_curves(_required(run, name)),
        "serve": lambda: bench_serve(_required(run, name)),
        "soak": lambda: bench_soak(_required(run, name), seconds=seconds or SECONDS),
        "off-policy": bench_off_policy,
        "train": lambda: bench_train(run),
        "ladq": lambda: bench_ladq(_required(run, name)),
        "days": lambda: bench_days(_data(data, name), load_recipe(recipe, OVERRIDES)),
        "pruning": lambda: bench_pruning(_required(run, name)),
        "gpu": lambda: bench_gpu(data),
        "scale": lambda: bench_scale(FULL if size is None else MadeUpSize.parse(size)),
    }
    if name not in benches:
        raise CallError(f"bench must be one of {', '.join(benches)}, got {name!r}")
    with shown_as(f"bench {name}"):
        lines = benches[name]()
    return as_result(name, lines)


def _data(data: Path | None, name: str) -> Path:
    if data is None:
        raise CallError(f"bench {name} must be told a data set, got none; add --data FOLDER")
    return data


def _required(run: Path | None, name: str) -> Path:
    if run is None:
        raise CallError(f"bench {name} must be told a run, got none; add --run RUN")
    return run
