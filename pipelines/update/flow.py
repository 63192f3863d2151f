"""The update: a new run that goes on from another, stage by stage. Read first.

The tokenizer and the feature transform stay; the log, the catalogue and the models go on. What follows is as in a full
training, but for what takes long and can wait for one: alignment, the training of token models, TIGER.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pipelines.execute import Plan
from pipelines.flow import EVALUATIONS, STAGES, claim_run
from pipelines.job import REPORTS, Job, Stage
from pipelines.recipe import Recipe, load_recipe, save_recipe
from pipelines.runtime import run_stages
from pipelines.update.day import report_day
from pipelines.update.stages import (
    append_day,
    extend_catalogue,
    extend_features,
    extend_tokens,
    go_on_with_further_members,
    go_on_with_member,
    go_on_with_model,
    keep_tokenizer,
)
from recsys.core.artifacts import Manifest, require, write_json
from recsys.core.errors import ArtifactError, CallError
from recsys.core.lock import owned
from recsys.data import schema
from recsys.data.table import read_parquet
from recsys.evaluation.results import Evaluation
from recsys.recommender.day_drift import DayDrift
from recsys.recommender.manifest import verify_bundle

READ = ("data", "features", "tokenizer", "catalog", "member", "further_members", "model", "tokens")
"""The stages of the run before that an update reads."""
_DATED = re.compile(r"-\d{8}$")


@dataclass(frozen=True, kw_only=True)
class Updated:
    """What an update made: where the new run is, how it ranks, and what the day was like (``reports/day.json``)."""

    run: Path
    evaluation: Evaluation
    day: DayDrift

    @property
    def sentence(self) -> str:
        """The update in words."""
        scores = self.day.scores
        gained = (
            f" NDCG@10 on {scores.questions:,} of the day's users: "
            f"{scores.before:.4f} before, {scores.after:.4f} after."
            if scores
            else ""
        )
        return f"{self.day.day_events:,} new events; the updated run is {self.run}.{gained} {self.day.sentence}"


def update_run(
    run: Path, day: Path, to: Path | None = None, *, use_ray: bool = True, refresh_codebooks: bool = False
) -> Updated:
    """Go on from a run with a day of events and items, in a folder of its own; the run before stays as it is.

    Args:
        run: the run before.
        day: a folder in the data contract with the new events, and new items if there are any.
        to: the new run's folder; None is a sibling of the run, named after it and the day's last date.
        use_ray: whether stages run as Ray tasks, else in this process.
        refresh_codebooks: whether the tokenizer's codebooks are fitted anew and matched to the old ones.

    Raises:
        ArtifactError: the run before is not as its training left it.
        CallError: the new folder is another run's.
    """
    previous = run.resolve()
    version = _checked(previous)
    recipe = _recipe(previous, version, refresh_codebooks=refresh_codebooks)
    target = (to or dated(previous, day)).resolve()
    if target == previous or target.is_relative_to(previous):
        raise CallError(f"--to must not be the run before or inside it, got {target}; choose another folder")
    claim_run(day, target)
    with owned(target):
        if (target / "recipe.toml").exists() and load_recipe(str(target / "recipe.toml")).update.previous != version:
            raise CallError(f"--to must be a new folder or this update's, got another run, {target}; choose another")
        save_recipe(recipe, target / "recipe.toml")
        write_json(target / "source.json", json.loads((previous / "source.json").read_text()))
        plan = Plan(source=day.resolve(), run=target, recipe=recipe)
        run_stages(update_stages(previous), plan, use_ray=use_ray)
    evaluation = json.loads((target / REPORTS / "evaluation.json").read_text())
    day_drift = json.loads((target / REPORTS / "day.json").read_text())
    return Updated(run=target, evaluation=Evaluation.from_json(evaluation), day=DayDrift.from_json(day_drift))


def update_stages(previous: Path) -> tuple[Stage, ...]:
    """Return the stages of an update of a run, in order."""

    def after(work: Callable[..., None]) -> Callable[[Job], None]:
        return partial(work, previous=previous)

    before, changed = ("update.previous",), ("update", "device")
    stages = (
        # the log with the day behind it
        Stage(name="data", work=after(append_day), sections=("data", *before), reads_source=True),
        # new items' vectors by the transform as it was
        Stage(name="features", work=after(extend_features), parents=("data",), sections=before),
        # the tokenizer as it was, or with refreshed codebooks
        Stage(
            name="tokenizer",
            work=after(keep_tokenizer),
            parents=("features",),
            sections=(*before, "update.updates", "update.refresh_codebooks"),
        ),
        # new items' codes and categories behind the old ones
        Stage(
            name="catalog",
            work=after(extend_catalogue),
            parents=("data", "features", "tokenizer"),
            sections=(*before, "update.refresh_codebooks"),
        ),
        # token experts know the new items by their codes
        Stage(name="tokens", work=after(extend_tokens), parents=("features", "catalog"), sections=before),
        # all networks go on from their weights
        Stage(
            name="member",
            work=after(go_on_with_member),
            parents=("data", "features"),
            sections=(*changed, "precision"),
            by_workers=True,
        ),
        Stage(
            name="further_members",
            work=after(go_on_with_further_members),
            parents=("data", "features"),
            sections=(*changed, "precision"),
            by_workers=True,
        ),
        Stage(
            name="model",
            work=after(go_on_with_model),
            parents=("data", "features", "catalog"),
            sections=(*changed, "model.cooccurrence", "fit", "precision"),
            by_workers=True,
        ),
    )
    made = {stage.name for stage in stages}
    day = Stage(
        name="day",
        work=after(report_day),
        parents=("data", "features", "catalog", "bundle"),
        sections=("update",),
        files=("day.json",),
    )
    return (*stages, *(stage for stage in STAGES if stage.name not in made), day, EVALUATIONS["test"])


def dated(previous: Path, day: Path) -> Path:
    """Return the folder beside a run that is named after it and the last date of a day's events."""
    times = read_parquet(day / schema.INTERACTIONS)[schema.TIMESTAMP]
    date = datetime.fromtimestamp(max(times.to_pylist()), UTC)
    return previous.with_name(f"{_DATED.sub('', previous.name)}-{date:%Y%m%d}")


def _checked(previous: Path) -> str:
    """Return the model version of a run after a look at all that an update reads of it."""
    remedy = f"run `recsys train DATA --to {previous}` first"
    manifest = Manifest(previous)
    require(manifest.path, remedy=remedy)
    entries = manifest.read()
    for name in READ:
        entry = entries.get(name)
        if entry is None or not manifest.is_current(name, entry["key"], previous / name):
            raise ArtifactError(f"{previous / name} must be as `recsys train` left it, but it is not; {remedy}")
    return verify_bundle(previous / "bundle").model_version


def _recipe(previous: Path, version: str, *, refresh_codebooks: bool) -> Recipe:
    """Return the recipe of the run before with what an update leaves out, and where it comes from."""
    recipe = load_recipe(str(require(previous / "recipe.toml", remedy="train the run again")))
    update = {
        "previous": version,
        "updates": recipe.update.updates + 1,
        "refresh_codebooks": refresh_codebooks,
    }
    fitted = tuple(name for name in recipe.baselines.fitted if name not in ("ensemble", "rpg", "tiger"))
    return recipe.model_copy(
        update={
            "alignment": recipe.alignment.model_copy(update={"steps": 0}),
            "experts": recipe.experts.model_copy(update={"trained": ()}),
            "baselines": recipe.baselines.model_copy(update={"fitted": fitted, "sasrec": None}),
            "update": recipe.update.model_copy(update=update),
        }
    )
