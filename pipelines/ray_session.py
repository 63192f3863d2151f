"""The one place of the pipelines that starts Ray: a session that is connected, used and closed."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.core.errors import CallError, LostError, RecsysError, WorkerError
from recsys.core.telemetry import LOG

STARTS = 4
"""So often workers that train together are started, the first time included, before a training gives up."""


@dataclass(frozen=True, kw_only=True)
class WorkerGroup:
    """Processes that train together."""

    name: str
    """What errors call their work."""
    least: int
    most: int
    """With more than ``least`` it takes as many as are free, and goes on with fewer where some are lost."""
    threads: int
    """Cores of each."""
    gpu: bool
    """Whether each gets a GPU where the cluster has one."""
    folder: Path
    """Where Ray Train keeps its own files."""


class RaySession:
    """A connection to Ray: hands out work, waits for it, and turns what goes wrong there into errors of ours."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._names: dict[Any, str] = {}

    def submit(
        self,
        name: str,
        work: Callable[..., Any],
        *args: Any,
        cpus: int = 1,
        fresh: bool = False,
    ) -> Any:
        """Hand out a call and return a reference to its result.

        Args:
            name: what errors call it.
            work: a function of a module, so that other processes find it.
            args: what it is called with; references are waited for first.
            cpus: how many cores it takes.
            fresh: whether it gets a process of its own, whose memory and processor time are its own.
        """
        options: dict[str, Any] = {"num_cpus": cpus, "max_retries": 0} | ({"max_calls": 1} if fresh else {})
        ref = self._ray.remote(**options)(work).remote(*args)
        self._names[ref] = name
        return ref

    def wait(self, refs: Sequence[Any], *, seconds: float | None = None) -> tuple[list[Any], list[Any]]:
        """Wait until a reference is done, or for so many seconds; returns those done and those not."""
        done, waiting = self._ray.wait(list(refs), timeout=seconds)
        return done, waiting

    def result(self, ref: Any) -> Any:
        """Return a result.

        Raises:
            RecsysError: what the call raised on purpose.
            LostError: the process died.
            WorkerError: anything else that went wrong there, in one line; the whole of it is in the debug log.
        """
        with self.errors(self._names.get(ref, "work")):
            return self._ray.get(ref)

    @contextmanager
    def errors(self, name: str) -> Iterator[None]:
        """Turn what Ray raises in the block into what the work raised on purpose, or into one line that names the work.

        Raises:
            RecsysError: what was raised on purpose.
            LostError: the process died.
            WorkerError: anything else that went wrong in another process; the whole of it is in the debug log.
        """
        try:
            yield
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RecsysError):
                raise error.cause from error
            LOG.debug("%s", error)
            raise _failed(name, error.cause) from error
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            raise LostError(
                f"{name} ended with its process: {first}; run the same command again, it goes on from its checkpoints"
            ) from error

    def train(self, group: WorkerGroup, work: Callable[[Any], Any], argument: Any) -> Any:
        """Call a function in every process of a group, in one process group of torch; returns what the first one does.

        Where processes are lost the others are stopped and all are started again: the work goes on from its checkpoint.

        Raises:
            CallError: the cluster has fewer cores than the group needs.
            RecsysError: what the work raised on purpose.
            LostError: processes were lost too often.
            WorkerError: anything else that went wrong in one of them.
        """
        from ray.train import TrainingFailedError

        if group.least * group.threads > self.cores:
            raise CallError(
                f"workers must find a core for each of their threads, got {group.least} workers of {group.threads} "
                f"threads and {self.cores} cores; lower workers in the recipe, or add machines to the cluster"
            )
        for start in range(1, STARTS + 1):
            try:
                return self._trainer(group, work, argument).fit().return_value
            except TrainingFailedError as error:
                lost = _lost(group, error)
                if start == STARTS:
                    raise LostError(
                        f"{group.name} lost workers {STARTS} times, at last: {lost}; "
                        "run the same command again, it goes on from its checkpoints"
                    ) from error
                LOG.warning("%s lost a worker (%s); going on from the checkpoint", group.name, lost)
        raise AssertionError("every start returns or raises")

    def _trainer(self, group: WorkerGroup, work: Callable[[Any], Any], argument: Any) -> Any:
        from ray import train
        from ray.train.torch import TorchTrainer

        gpu = group.gpu and self._ray.cluster_resources().get("GPU", 0) >= group.least
        return TorchTrainer(
            _in_group,
            train_loop_config={"work": work, "argument": argument},
            scaling_config=train.ScalingConfig(
                num_workers=group.least if group.least == group.most else (group.least, group.most),
                use_gpu=gpu,
                resources_per_worker={"CPU": group.threads} | ({"GPU": 1} if gpu else {}),
            ),
            run_config=train.RunConfig(storage_path=str(group.folder)),
        )

    def cancel(self, refs: Sequence[Any]) -> None:
        """Give up work that is not done."""
        for ref in refs:
            self._ray.cancel(ref, force=True)

    @property
    def cores(self) -> int:
        """How many cores the machine or the cluster has."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    @property
    def data(self) -> Any:
        """Ray Data, its progress bars off."""
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        return data


def _in_group(config: dict[str, Any]) -> Any:
    return config["work"](config["argument"])


def _lost(group: WorkerGroup, error: Any) -> str:
    """Return in a line how workers were lost; raise what was no loss but an error of the work.

    When one process dies, those that wait for it fail too, each with a RuntimeError of torch's process group.
    """
    causes = list(getattr(error, "worker_failures", {}).values())
    for cause in causes:
        if isinstance(cause, RecsysError):
            raise cause from error
    LOG.debug("%s", error)
    others = [cause for cause in causes if not isinstance(cause, RuntimeError) and not _is_ray(cause)]
    if others:
        raise _failed(group.name, others[0]) from error
    named = causes[0] if causes else error
    return (str(named).strip().splitlines() or [type(named).__name__])[0]


def _failed(name: str, cause: BaseException) -> WorkerError:
    """Return the message of an error in another process that was not raised on purpose."""
    if isinstance(cause, OSError):
        return WorkerError(
            f"{name} could not use a file, in another process: {cause}; "
            "mend that (free space, rights) and run the same command again, it goes on from its checkpoints"
        )
    return WorkerError(
        f"{name} failed in another process: {type(cause).__name__}: {cause}; "
        "run the command with one worker and --no-ray to see where"
    )


def _is_ray(cause: BaseException) -> bool:
    return type(cause).__module__.startswith("ray.")


@contextmanager
def ray_session() -> Iterator[RaySession]:
    """Connect to Ray and let go of it at the end: to the one of this process, of ``RAY_ADDRESS``, else a local one.

    A Ray that was there before is left running; the local one has this machine's cores and ends with the block.

    Raises:
        WorkerError: Ray did not start.
    """
    import ray

    if ray.is_initialized():
        yield RaySession(ray)
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # how often Ray Train asks whether all is done
    # without an address Ray would look for a cluster that somebody else has started on this machine
    local = {"address": "local", "include_dashboard": False, "num_cpus": os.cpu_count()}
    _start(ray, {} if os.environ.get("RAY_ADDRESS") else local)
    try:
        yield RaySession(ray)
    finally:
        ray.shutdown()


def _start(ray: Any, local: dict[str, Any]) -> None:
    try:
        ray.init(logging_level="error", log_to_driver=False, **local)
    except Exception as error:  # when a machine is too busy to start it, Ray raises the plain class
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WorkerError(
            f"Ray must start, got: {first}; run the command with --no-ray, or when the machine has less to do"
        ) from error
