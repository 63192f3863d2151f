"""The one place of the pipelines that knows Ray: a session that is connected, used and closed."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recsys.core.errors import RecsysError, WorkerError
from recsys.core.telemetry import LOG


class RaySession:
    """A connection to Ray: hands out work, waits for it, and turns what goes wrong there into errors of ours."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._names: dict[Any, str] = {}

    def submit(self, name: str, work: Callable[..., Any], *args: Any, cpus: int = 1, fresh: bool = False) -> Any:
        """Hand out a call and return a reference to its result.

        Args:
            name: what errors call it.
            work: a function of a module, so that other processes find it.
            args: what it is called with; references are waited for first.
            cpus: how many cores it takes.
            fresh: whether it gets a process of its own, whose memory and processor time are its own.
        """
        options = {"num_cpus": cpus, "max_retries": 0} | ({"max_calls": 1} if fresh else {})
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
            WorkerError: anything else that went wrong there, in one line; the whole of it is in the debug log.
        """
        with self.errors(self._names.get(ref, "work")):
            return self._ray.get(ref)

    @contextmanager
    def errors(self, name: str) -> Iterator[None]:
        """Turn what Ray raises in the block into what the work raised on purpose, or into one line that names the work.

        Raises:
            RecsysError: what was raised on purpose.
            WorkerError: anything else that went wrong in another process; the whole of it is in the debug log.
        """
        try:
            yield
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RecsysError):
                raise error.cause from error
            LOG.debug("%s", error)
            cause = error.cause
            raise WorkerError(
                f"{name} failed in another process: {type(cause).__name__}: {cause}; "
                "run the command with --no-ray to see where"
            ) from error
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            raise WorkerError(
                f"{name} ended with its process: {first}; run the same command again, it goes on from its checkpoints"
            ) from error

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
    local = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False, "num_cpus": os.cpu_count()}
    _start(ray, local)
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
