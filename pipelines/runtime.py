"""Executes stages in the order of their parents: what reads the data set here, the others as Ray tasks or here, too."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.display import showing
from pipelines.execute import WORK, Plan, execute, is_current, run_here, stage_key
from pipelines.job import Stage
from pipelines.ray_session import RaySession, ray_session
from pipelines.record import StageRecord, read_records
from pipelines.relay import Relay, relayed
from pipelines.worker_group import run_by_workers
from recsys.core.artifacts import Manifest
from recsys.core.errors import ArtifactError, CallError, LostError
from recsys.core.telemetry import LOG

EVENTS = "events"
"""The part of the work folder in which stages in other processes say how far they are."""
LOOK_EVERY_SECONDS = 0.2
STARTS = 3
"""So often a stage whose process dies is started, the first time included."""


def run_stages(stages: Sequence[Stage], plan: Plan, *, use_ray: bool) -> dict[str, StageRecord]:
    """Run every stage that is not current, record each in the manifest as it ends, and return the records.

    Parents that are not among the stages must have run before, and be as they were left.

    Raises:
        ArtifactError: such a parent is missing or was changed.
        CallError: the recipe sets several workers where stages run in this process.
    """
    if not use_ray and plan.recipe.worker_range[0] > 1 and any(stage.by_workers for stage in stages):
        raise CallError(
            f"workers must be 1, or [1, n], where stages run in one process (--no-ray, studies), "
            f"got {plan.recipe.workers}; set workers=1"
        )
    records = _finished_before(stages, plan.run)
    with showing() as display:
        display.expect(len(stages))
        on_ray = use_ray and not _all_current(stages, plan, records)
        # what reads the data set is done here: a log that cannot be trained on is refused before Ray starts
        for stage in [stage for stage in stages if stage.reads_source] if on_ray else stages:
            _run_here(stage, plan, records)
        if on_ray:
            with ray_session() as session:
                return _run_on_ray(session, [one for one in stages if not one.reads_source], plan, records)
    return records


def _run_here(stage: Stage, plan: Plan, records: dict[str, StageRecord]) -> None:
    """Run a stage in this process, and record it."""
    records[stage.name] = execute(stage, plan, records)
    if plan.store is not None:
        plan.store.push(stage.name, records[stage.name])
    _record(stage, plan, records[stage.name])


def _record(stage: Stage, plan: Plan, record: StageRecord) -> None:
    """Note a finished stage in the manifest, at the run's URL too, where its files are."""
    Manifest(plan.run).record(stage.name, record.to_json())
    if plan.store is not None:
        plan.store.push_loose()


def _finished_before(stages: Sequence[Stage], run: Path) -> dict[str, StageRecord]:
    """Return the records of stages that are not to be run, their own check passed where one is a parent."""
    names = {stage.name for stage in stages}
    records = {name: record for name, record in read_records(run).items() if name not in names}
    for parent in {parent for stage in stages for parent in stage.parents} - names:
        record = records.get(parent)
        if record is None or not Manifest(run).is_current(parent, record.key, run / parent):
            state = "it is missing" if record is None else "it was changed"
            raise ArtifactError(
                f"{run / parent} must be as `recsys train` left it, but {state}; run `recsys train DATA --to {run}`"
            )
    return records


def _run_on_ray(
    session: RaySession, stages: Sequence[Stage], plan: Plan, records: dict[str, StageRecord]
) -> dict[str, StageRecord]:
    """Hand each stage to Ray once its parents are recorded; independent ones run side by side."""
    waiting, running = list(stages), dict[Any, Stage]()
    relays: dict[str, Relay] = {}
    starts = Counter[str]()
    try:
        with showing() as display:
            while waiting or running:
                for stage in [one for one in waiting if all(parent in records for parent in one.parents)]:
                    waiting.remove(stage)
                    starts[stage.name] += 1
                    events = plan.run / WORK / EVENTS / f"{stage.name}.jsonl"
                    relays[stage.name] = Relay(events, display)
                    running[_handed_out(session, stage, plan, records, events)] = stage
                done, _ = session.wait(list(running), seconds=LOOK_EVERY_SECONDS)
                for relay in relays.values():
                    relay.forward()
                for ref in done:
                    stage = running.pop(ref)
                    try:
                        records[stage.name] = session.result(ref)
                    except LostError as error:
                        if starts[stage.name] == STARTS:
                            raise
                        LOG.warning("%s; starting it again", error)
                        waiting.append(stage)
                    else:
                        if plan.store is not None:
                            plan.store.fetch(stage.name, records[stage.name])
                        _record(stage, plan, records[stage.name])
    finally:
        session.cancel(list(running))
    return records


def _handed_out(session: RaySession, stage: Stage, plan: Plan, records: Mapping[str, StageRecord], events: Path) -> Any:
    """Hand a stage to Ray; one that workers train takes no core itself, it waits for them."""
    cpus = 0 if _runs_by_workers(stage, plan) else plan.recipe.threads
    call = (stage, plan, dict(records), events)
    return session.submit(f"stage {stage.name}", _apart, *call, cpus=cpus)


def _runs_by_workers(stage: Stage, plan: Plan) -> bool:
    return stage.by_workers and plan.recipe.worker_range[1] > 1


def _apart(stage: Stage, plan: Plan, records: Mapping[str, StageRecord], events: Path) -> StageRecord:
    """Execute a stage in a process of Ray, its progress and log lines relayed."""
    run_work = partial(run_by_workers, events=events) if _runs_by_workers(stage, plan) else run_here
    if plan.store is not None:  # this may be another machine
        plan = replace(plan, run=plan.store.begin({stage.name, *stage.parents}))
    with relayed(events):
        record = execute(stage, plan, records, run_work=run_work)
    if plan.store is not None:
        plan.store.push(stage.name, record)
    return record


def _all_current(stages: Sequence[Stage], plan: Plan, finished: Mapping[str, StageRecord]) -> bool:
    """Tell whether no stage would run: then there is no need of Ray."""
    records = {**read_records(plan.run), **finished}
    for stage in stages:
        if not all(name in records for name in (stage.name, *stage.parents)):
            return False
        if not is_current(stage, plan.run, stage_key(stage, plan, [records[parent] for parent in stage.parents])):
            return False
    return True
