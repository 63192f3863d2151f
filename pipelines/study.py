"""Several runs of one recipe, evaluated together: seeds for a spread, ablations for reasons.

A study's folder is the run of its first seed; its other runs lie below, and ``reports/study.json`` is what they say
together. Every run is one process on its own threads, so its seconds and its memory are its own.

Axes: U user, S seed.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pipelines.display import Display, showing
from pipelines.execute import WORK, Plan
from pipelines.flow import claim_run, run_flow
from pipelines.ray_session import ray_session
from pipelines.recipe import Recipe, Rival, apply_overrides
from pipelines.relay import Relay, relayed
from pipelines.runtime import EVENTS, LOOK_EVERY_SECONDS
from pipelines.stages.evaluate import OURS
from recsys.core.arrays import Float64Array
from recsys.core.artifacts import hash_file, write_json
from recsys.core.errors import ConfigError
from recsys.core.lock import owned
from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG
from recsys.evaluation.intervals import bootstrap_interval, paired_difference
from recsys.evaluation.leave_one_out import figures_of
from recsys.evaluation.results import Estimate, Evaluation, EvaluationRow, PairedRow, Seen, mean_row

STUDY = Path("reports") / "study.json"
EVALUATION = Path("reports") / "evaluation.json"
_SUMMED = "evaluation_sha256"
"""The key of a study's file that holds the hash of its first run's evaluation, which the study is of."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One run of a study: which variant of the recipe, with which seed, in which folder."""

    variant: str
    recipe: Recipe
    folder: Path
    reuse_from: Path | None = None
    """The plain run of the same seed: what an ablation does not change is taken from there."""


def members(run: Path, recipe: Recipe) -> list[Member]:
    """List the runs of a study; the first is the recipe itself with its first seed, in the study's own folder.

    Raises:
        ConfigError: an ablation has the name of ours or of a rival, or one that is no folder's.
    """
    _require_names(recipe.study.ablations)
    plain = recipe.model_copy(update={"study": recipe.study.model_copy(update={"seeds": (), "ablations": {}})})
    found = []
    for variant, overrides in {OURS: (), **recipe.study.ablations}.items():
        changed = apply_overrides(plain, overrides)
        later = tuple(name for name in changed.baselines.fitted if name not in recipe.study.once)
        for place, seed in enumerate(recipe.study.seeds or (recipe.seed,)):
            own = run if place == 0 else run / "study" / OURS / f"seed-{seed}"
            folder = own if variant == OURS else run / "study" / variant / f"seed-{seed}"
            reuse_from = None if variant == OURS else own
            rivals = changed.baselines if place == 0 else changed.baselines.model_copy(update={"fitted": later})
            changed_here = changed.model_copy(update={"seed": seed, "baselines": rivals})
            found.append(Member(variant=variant, recipe=changed_here, folder=folder, reuse_from=reuse_from))
    return found


def _require_names(variants: Collection[str]) -> None:
    """Refuse variants whose rows or folders would be those of others."""
    taken = (OURS, *get_args(Rival))
    if wrong := [name for name in variants if name in taken or Path(name).name != name or name in ("", "..")]:
        raise ConfigError(
            f"study.ablations must have names of their own, other than {', '.join(taken)}, and without '/', got "
            f"{wrong}; rename them"
        )


def run_study(source: Path, run: Path, recipe: Recipe, *, use_ray: bool, fresh: bool = False) -> Evaluation:
    """Train and evaluate every member, side by side on Ray, and write what they say together.

    Raises:
        InUseError: another process works in the study's folder.
    """
    found = members(run, recipe)
    for member in found:
        claim_run(source, member.folder)
    with owned(run), showing() as display:
        if fresh:
            for member in found:
                shutil.rmtree(member.folder / WORK, ignore_errors=True)
        if use_ray:
            _train_on_ray(source, found, display)
        else:
            for member in found:
                _train_one(source, member)
        result = summarise(found)
        save_study(run, result)
    return result


def save_study(run: Path, result: Evaluation) -> None:
    """Write what a study's runs say together, and of which evaluation of its first run it is."""
    write_json(run / STUDY, {**result.to_json(), _SUMMED: hash_file(run / EVALUATION)})


def read_study(run: Path) -> Evaluation | None:
    """Return what a study's runs say together, or None where the run is no study or was evaluated anew since."""
    path, evaluated = run / STUDY, run / EVALUATION
    if not path.exists():
        return None
    values = json.loads(path.read_text())
    summed = values.get(_SUMMED)  # none in studies of before there was such a key
    if summed is not None and not (evaluated.exists() and hash_file(evaluated) == summed):
        return None
    return Evaluation.from_json(values)


def _train_one(source: Path, member: Member) -> None:
    LOG.info("study: %s, seed %d", member.variant, member.recipe.seed)
    plan = Plan(source=source, run=member.folder, recipe=member.recipe, reuse_from=member.reuse_from)
    run_flow(plan, use_ray=False)


def _train_apart(source: Path, member: Member, events: Path, *_after: object) -> None:
    """Train one member in a process of Ray, its progress and log lines relayed."""
    with relayed(events):
        _train_one(source, member)


def _train_on_ray(source: Path, found: Sequence[Member], display: Display) -> None:
    refs: dict[Path, Any] = {}
    relays = []
    with ray_session() as session:
        for member in found:
            events = member.folder / WORK / EVENTS / "study.jsonl"
            relays.append(Relay(events, display, label=f"{member.variant} {member.recipe.seed}: "))
            after = [] if member.reuse_from is None else [refs[member.reuse_from]]
            name = f"{member.variant}, seed {member.recipe.seed},"
            # a fresh process for each run, so that its peak of memory is its own
            call = (source, member, events, *after)
            refs[member.folder] = session.submit(name, _train_apart, *call, cpus=member.recipe.threads, fresh=True)
        waiting = list(refs.values())
        try:
            while waiting:
                done, waiting = session.wait(waiting, seconds=LOOK_EVERY_SECONDS)
                for relay in relays:
                    relay.forward()
                for ref in done:
                    session.result(ref)
        finally:
            session.cancel(waiting)


Figures = dict[str, Float64Array]
"""A recommender's figure of every user, by metric."""
Key = tuple[str, Seen]
"""A row's recommender, and what happened to seen items."""


def summarise(found: Sequence[Member]) -> Evaluation:
    """Return means over seeds, their deviation, bootstrap intervals over users, and ours against each other row."""
    evaluated = [Evaluation.from_json(json.loads((member.folder / EVALUATION).read_text())) for member in found]
    ranks = [dict(np.load((member.folder / EVALUATION).with_name("ranks.npz"))) for member in found]
    rows: dict[Key, dict[int, EvaluationRow]] = {}
    values: dict[Key, dict[int, Figures]] = {}
    counterpart: dict[str, str] = {}
    for member, result, rank in zip(found, evaluated, ranks, strict=True):
        for row in result.rows:
            who, seed = row.recommender, member.recipe.seed
            if member.variant != OURS and not who.startswith(OURS):
                continue  # rivals are the same in every variant
            name = who.replace(OURS, member.variant, 1)  # "recsys: paths alone" of a variant is the variant's
            counterpart[name] = OURS if member.variant == OURS else who
            rows.setdefault((name, row.seen), {})[seed] = row
            values.setdefault((name, row.seen), {})[seed] = figures_of(rank[f"{who}.{row.seen}"])
    return replace(
        evaluated[0],
        seeds=tuple(sorted({member.recipe.seed for member in found})),
        rows=tuple(_summary(key[0], list(same.values()), _mean(values[key])) for key, same in rows.items()),
        paired=tuple(_paired(values, counterpart)),
    )


def _mean(by_seed: Mapping[int, Figures], seeds: Collection[int] | None = None) -> Figures:
    """Return every user's figures, mean over seeds."""
    chosen = [figures for seed, figures in by_seed.items() if seeds is None or seed in seeds]
    return {metric: np.mean([figures[metric] for figures in chosen], axis=0) for metric in chosen[0]}


def _summary(name: str, same: Sequence[EvaluationRow], value_of: Figures) -> EvaluationRow:
    """Return one row of means over seeds; intervals are over users."""
    accuracy = {}
    for metric, value_U in value_of.items():
        low, high = bootstrap_interval(value_U, rng_for(0, "study", name, same[0].seen, metric))
        mean = float(np.mean([row.accuracy[metric].value for row in same]))
        accuracy[metric] = Estimate(value=mean, low=low, high=high)
    return mean_row(same, name=name, accuracy=accuracy)


def _paired(values: Mapping[Key, Mapping[int, Figures]], counterpart: Mapping[str, str]) -> Iterator[PairedRow]:
    """Yield ours minus every other row on the seeds both have, user by user, with 95 % bootstrap intervals.

    Rivals and our own parts are compared with what is served; a variant's part with the same part of ours, where ours
    has it on some seed of the variant's: which ways to rank there are, and by how many paths, is chosen in each run.
    """
    for (name, seen), by_seed in values.items():
        ours = values.get((counterpart[name], seen), {})
        shared = ours.keys() & by_seed.keys()
        if name == OURS or not shared:
            continue
        mine, others = _mean(ours, shared), _mean(by_seed, shared)
        difference = {}
        for metric, value_U in others.items():
            mean, low, high = paired_difference(mine[metric], value_U, rng_for(0, "against", name, seen, metric))
            difference[metric] = Estimate(value=mean, low=low, high=high)
        yield PairedRow(recommender=counterpart[name], compared_with=name, group=seen, difference=difference)
