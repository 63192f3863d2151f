"""The batch job: claim the folder, plan, answer what is not done, count, mark. Read first."""

from collections.abc import Sequence
from typing import Any

from pipelines.batch.call import BatchCall, BatchReport
from pipelines.batch.folder import BatchFolder
from pipelines.batch.plan import BatchPlan, make_plan
from pipelines.batch.users import user_columns, user_files
from pipelines.batch.worker import PartWorker, RemoteWorker
from pipelines.ray_session import ray_session
from recsys.core.artifacts import hash_file
from recsys.core.errors import WorkerError
from recsys.core.lock import owned
from recsys.core.telemetry import LOG, track
from recsys.data.prepare import EVENTS, USERS
from recsys.recommender.manifest import verify_bundle


def recommend_batch(call: BatchCall, *, use_ray: bool = True) -> BatchReport:
    """Recommend for many users into a partitioned Parquet folder; a job that was killed goes on where it was.

    Raises:
        CallError: the target is not this job's.
        DataError: the users cannot be read.
        ArtifactError: the run cannot be used.
        InUseError: another process works on the same shard in the same folder.
    """
    call = call.resolved()
    job = _dependencies(call)
    folder = BatchFolder(call.to, call.shard)
    folder.claim(job)
    with owned(folder.work):
        if folder.complete:
            LOG.info("%s is complete, nothing is done again", call.to)
            report = folder.report()
        else:
            plan = make_plan(call, folder.work / "plan")
            todo = [part for part in plan.parts if not folder.is_done(part)]
            if len(todo) < len(plan.parts):
                LOG.info("%d of %d parts are there from before", len(plan.parts) - len(todo), len(plan.parts))
            if todo:
                _answer(call, folder, plan, todo, use_ray=use_ray)
            report = folder.finish(plan)
    folder.seal()
    return report


def _dependencies(call: BatchCall) -> dict[str, Any]:
    """Return all that the result depends on, after a look at every input."""
    manifest = verify_bundle(call.run / "bundle")
    files = [] if call.users is None else user_files(call.users)
    for file in files:
        next(user_columns(file), None)
    return {
        "model_version": manifest.model_version,
        "log": [hash_file(call.run / "data" / name) for name in (EVENTS, USERS)],
        "users": "all" if call.users is None else [hash_file(file) for file in files],
        "n": call.n,
        "shards": call.shard.count,
    }


def _answer(call: BatchCall, folder: BatchFolder, plan: BatchPlan, todo: Sequence[int], *, use_ray: bool) -> None:
    if use_ray:
        _answer_on_ray(call, folder, plan, todo)
        return
    worker = PartWorker(call.run, folder, plan, n=call.n)
    for part in track(todo, what="recommending, parts", total=len(plan.parts), done=len(plan.parts) - len(todo)):
        worker.answer(part)


def _answer_on_ray(call: BatchCall, folder: BatchFolder, plan: BatchPlan, todo: Sequence[int]) -> None:
    """Hand the parts to actors of Ray Data, which write them; nothing but part numbers comes back.

    One core is left to what feeds the actors: a pool that takes all of them waits for itself (ray issue 44687).
    """
    with ray_session() as session:
        actors = max(1, session.cores - 1)
        parts = session.data.from_items([{"part": part} for part in todo], override_num_blocks=len(todo)).map_batches(
            RemoteWorker,
            fn_constructor_args=(call.run, folder, plan),
            fn_constructor_kwargs={"n": call.n},
            batch_size=1,
            num_cpus=1 if session.cores > 1 else 0.5,
            compute=session.data.ActorPoolStrategy(min_size=1, max_size=actors),
        )
        done = len(plan.parts) - len(todo)
        with session.errors("recommending"):
            for row in track(parts.iter_rows(), what="recommending, parts", total=len(plan.parts), done=done):
                if row["error"]:
                    raise WorkerError(row["error"])
