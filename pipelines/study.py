"""Several runs of one recipe, judged together: seeds for a spread, ablations for reasons.

A study's folder is the run of its first seed; its other runs lie below, and ``reports/study.json`` is what they say
together. Every run is one process on its own threads, so its seconds and its memory are its own.

Axes: U user, S seed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.flow import train
from pipelines.recipe import Recipe, apply_overrides
from pipelines.runtime import start_ray
from pipelines.stages.evaluate import OURS
from recsys.core.artifacts import write_json
from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG
from recsys.evaluation.intervals import bootstrap_interval, paired_difference
from recsys.evaluation.leave_one_out import figures_of

STUDY = Path("reports") / "study.json"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One run of a study: which variant of the recipe, with which seed, in which folder."""

    variant: str
    recipe: Recipe
    folder: Path
    lender: Path | None = None
    """The plain run of the same seed: what an ablation does not change is taken from there."""


def members(run: Path, recipe: Recipe) -> list[Member]:
    """List the runs of a study; the first is the recipe itself with its first seed, in the study's own folder."""
    plain = recipe.model_copy(update={"study": recipe.study.model_copy(update={"seeds": (), "ablations": {}})})
    found = []
    for variant, overrides in {OURS: (), **recipe.study.ablations}.items():
        changed = apply_overrides(plain, overrides)
        for place, seed in enumerate(recipe.study.seeds or (recipe.seed,)):
            own = run if place == 0 else run / "study" / OURS / f"seed-{seed}"
            folder = own if variant == OURS else run / "study" / variant / f"seed-{seed}"
            lender = None if variant == OURS else own
            changed_here = changed.model_copy(update={"seed": seed})
            found.append(Member(variant=variant, recipe=changed_here, folder=folder, lender=lender))
    return found


def run_study(source: Path, run: Path, recipe: Recipe, *, use_ray: bool) -> dict[str, Any]:
    """Train and judge every member, side by side on Ray, and write what they say together."""
    found = members(run, recipe)
    for member in found:
        member.folder.mkdir(parents=True, exist_ok=True)
    if use_ray:
        _train_on_ray(source, found)
    else:
        for member in found:
            _train_one(source, member)
    result = summarise(found)
    write_json(run / STUDY, result)
    return result


def read_study(run: Path) -> dict[str, Any] | None:
    """Return what a study's runs say together, or None where the run is no study."""
    path = run / STUDY
    return json.loads(path.read_text()) if path.exists() else None


def _train_one(source: Path, member: Member, *_after: object) -> None:
    LOG.info("study: %s, seed %d", member.variant, member.recipe.seed)
    train(source, member.folder, member.recipe, use_ray=False, lender=member.lender)


def _train_on_ray(source: Path, found: Sequence[Member]) -> None:
    import ray

    started_here = start_ray()
    # a fresh process for each run, so that its peak of memory is its own
    task = ray.remote(max_calls=1, max_retries=0)(_train_one)
    refs: dict[Path, Any] = {}
    try:
        for member in found:
            after = [] if member.lender is None else [refs[member.lender]]
            refs[member.folder] = task.options(num_cpus=member.recipe.threads).remote(source, member, *after)
        ray.get(list(refs.values()))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    finally:
        if started_here:
            ray.shutdown()


def summarise(found: Sequence[Member]) -> dict[str, Any]:
    """Return means over seeds, their deviation, bootstrap intervals over users, and ours against each rival."""
    judged = [json.loads((member.folder / "reports" / "evaluation.json").read_text()) for member in found]
    ranks = [dict(np.load(member.folder / "reports" / "ranks.npz")) for member in found]
    seeds = sorted({member.recipe.seed for member in found})
    rows: list[dict[str, Any]] = []
    values: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for variant in dict.fromkeys(member.variant for member in found):
        places = [place for place, member in enumerate(found) if member.variant == variant]
        for row in judged[places[0]]["rows"]:
            who, seen = row["recommender"], row["seen"]
            if variant != OURS and not who.startswith(OURS):
                continue  # rivals are the same in every variant
            name = who.replace(OURS, variant, 1)  # "recsys: paths alone" of a variant is the variant's
            same = [_row(judged[place], who, seen) for place in places]
            figures = [figures_of(ranks[place][f"{who}.{seen}"]) for place in places]
            values[name, seen] = {metric: np.mean([f[metric] for f in figures], axis=0) for metric in figures[0]}
            rows.append(_summary(name, seen, same, values[name, seen]))
    first = judged[0]
    return {
        "dataset": first["dataset"],
        "split": first["split"],
        "users": first["users"],
        "items": first["items"],
        "seeds": seeds,
        "rows": rows,
        "against": _against(values),
    }


def _row(judged: dict[str, Any], who: str, seen: str) -> dict[str, Any]:
    row: dict[str, Any] = next(r for r in judged["rows"] if r["recommender"] == who and r["seen"] == seen)
    return row


def _summary(
    name: str, seen: str, same: Sequence[dict[str, Any]], value_of: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    measures = [key for key, value in same[0].items() if isinstance(value, float)]
    return {
        "recommender": name,
        "seen": seen,
        **{key: float(np.mean([row[key] for row in same])) for key in measures},
        "std": {key: float(np.std([row[key] for row in same], ddof=1)) if len(same) > 1 else 0.0 for key in measures},
        "interval": {
            metric: list(bootstrap_interval(value_U, rng_for(0, "study", name, seen, metric)))
            for metric, value_U in value_of.items()
        },
    }


def _against(values: dict[tuple[str, str], dict[str, NDArray[np.float64]]]) -> list[dict[str, Any]]:
    """Return ours minus every other row, user by user, with 95 % bootstrap intervals."""
    lines = []
    for (name, seen), other in values.items():
        if name == OURS:
            continue
        line: dict[str, Any] = {"recommender": name, "seen": seen}
        for metric, value_U in other.items():
            mean, low, high = paired_difference(
                values[OURS, seen][metric], value_U, rng_for(0, "against", name, seen, metric)
            )
            line[metric] = {"value": mean, "low": low, "high": high}
        lines.append(line)
    return lines
