"""The whole run, top to bottom. Read this first.

    DATA ──► data ──► features ──► tokenizer ──► catalog ──► model ──► calibrated ──► aligned ──► bundle ──► evaluation
              │                                    │                      │ │                                 │ │
              │                                    └──► experts ──────────┼─┴──► students ──► tokens ─────────┘ │
              └───────────────────────────────► member(s) ────────────────┴──► baselines ───────────────────────┘

Each stage is a plain function that reads finished folders of the run and writes its own; stages meet in artifacts and
nowhere else. A stage whose inputs and settings are as they were is not run again.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.execute import WORK, Plan
from pipelines.job import Stage
from pipelines.recipe import Recipe, save_recipe
from pipelines.runtime import run_stages
from pipelines.stages.align import align_model
from pipelines.stages.baselines import fit_baselines
from pipelines.stages.bundle import select_and_bundle
from pipelines.stages.calibrate import calibrate_head
from pipelines.stages.catalog import build_catalog
from pipelines.stages.evaluate import evaluate_models
from pipelines.stages.experts import train_experts
from pipelines.stages.features import build_features
from pipelines.stages.member import train_further_members, train_member
from pipelines.stages.prepare import prepare_data
from pipelines.stages.pretrain import pretrain_model
from pipelines.stages.students import train_students
from pipelines.stages.tokenize import fit_codebooks
from pipelines.stages.tokens import rank_by_tokens
from pipelines.store import RunStore, url_of
from recsys.core.artifacts import Manifest, require, write_json
from recsys.core.errors import CallError
from recsys.core.lock import owned
from recsys.data.splits import Split
from recsys.evaluation.results import Evaluation

STAGES = (
    # the log, filtered and indexed; who did what in time order
    Stage(name="data", work=prepare_data, sections=("data",), reads_source=True),
    # what items are: their words, and who goes with whom
    Stage(name="features", work=build_features, parents=("data",), sections=("features",)),
    # a mixture of experts turns an item's vector into M parallel codes
    Stage(
        name="tokenizer", work=fit_codebooks, parents=("data", "features"), sections=("tokenizer", "quality", "device")
    ),
    # every item's codes, its category, and words for every code
    Stage(name="catalog", work=build_catalog, parents=("data", "features", "tokenizer")),
    # the ensemble member: a SASRec over ids, trained apart
    Stage(
        name="member",
        work=train_member,
        parents=("data",),
        sections=("member", "model.max_history", "device", "precision"),
        by_workers=True,
    ),
    # more of them by seeds of their own, where the recipe asks; the item head takes the mean of their logits
    Stage(
        name="further_members",
        work=train_further_members,
        parents=("data",),
        sections=("member", "further_members", "model.max_history", "device", "precision"),
        by_workers=True,
    ),
    # the generative model learns to name the next item by its codes, in any order
    Stage(
        name="model",
        work=pretrain_model,
        parents=("data", "features", "catalog"),
        sections=("model", "fit", "device", "precision"),
        by_workers=True,
    ),
    # all score items together, in the shares that rank best on validation
    Stage(
        name="calibrated",
        work=calibrate_head,
        parents=("data", "model", "member", "further_members"),
        sections=("device",),
    ),
    # token models whose item logits are sums of code logits, each with codebooks of its own
    Stage(
        name="experts",
        work=train_experts,
        parents=("data", "features", "catalog"),
        sections=("experts", "device", "precision"),
        by_workers=True,
    ),
    # copies of the experts learn from the item head and all experts together
    Stage(
        name="students",
        work=train_students,
        parents=("data", "calibrated", "experts"),
        sections=(
            "experts",
            *(f"tokens.{key}" for key in ("teacher", "distillation", "weight_steps", "max_users")),
            "device",
            "precision",
        ),
    ),
    # experts, students and the item head are mixed; paths by this mixture propose items, and it ranks them
    Stage(
        name="tokens",
        work=rank_by_tokens,
        parents=("data", "tokenizer", "catalog", "calibrated", "experts", "students"),
        sections=("experts", "tokens", "device"),
    ),
    # reinforcement learning on recommendation rewards
    Stage(
        name="aligned",
        work=align_model,
        parents=("data", "catalog", "tokenizer", "calibrated"),
        sections=("alignment", "fit", "device", "precision"),
        by_workers=True,
    ),
    # the rivals, from the same log (and, where one needs words, the same vectors); SASRec is the first member alone
    Stage(
        name="baselines",
        work=fit_baselines,
        parents=("data", "features", "member", "further_members"),
        sections=("baselines", "device"),
    ),
    # the better of the two models on validation, and everything serving needs
    Stage(
        name="bundle",
        work=select_and_bundle,
        parents=("data", "features", "tokenizer", "catalog", "calibrated", "tokens", "aligned"),
        sections=("decoder", "selection", "tokens.weight_steps", "alignment.steps", "device"),
    ),
)


EVALUATED = ("data", "baselines", "bundle")
"""What evaluation and replay read."""
EVALUATIONS: Mapping[Split, Stage] = {
    "test": Stage(
        name="evaluation",
        work=partial(evaluate_models, split="test"),
        parents=EVALUATED,
        sections=("evaluation", "device"),
        files=("evaluation.json", "ranks.npz"),
    ),
    "validation": Stage(
        name="evaluation-validation",
        work=partial(evaluate_models, split="validation"),
        parents=EVALUATED,
        sections=("evaluation", "device"),
        files=("evaluation-validation.json", "ranks-validation.npz"),
    ),
}
"""Leave-one-out with full ranking beside the baselines; training ends with the first."""


def train(
    source: Path,
    run: Path,
    recipe: Recipe,
    *,
    use_ray: bool = True,
    fresh: bool = False,
    reuse_from: Path | None = None,
) -> Evaluation:
    """Run the flow from a data set to an evaluated bundle; stages of equal key are taken from ``reuse_from``.

    Args:
        source: a folder in the data contract.
        run: the run folder, or its URL (pipelines/store.py).
        recipe: the settings.
        use_ray: whether stages run as Ray tasks, else in this process.
        fresh: whether checkpoints of a killed run are forgotten.
        reuse_from: another run.

    Raises:
        InUseError: another process works in the run folder.
    """
    store = RunStore.of(run)
    run = run if store is None else store.begin()
    claim_run(source, run)
    with owned(run):
        if fresh:
            shutil.rmtree(run / WORK, ignore_errors=True)
            if store is not None:
                store.remove_folder(run / WORK)
        plan = Plan(source=source, run=run, recipe=recipe, reuse_from=reuse_from, store=store)
        return run_flow(plan, use_ray=use_ray)


def run_flow(plan: Plan, *, use_ray: bool) -> Evaluation:
    """Run the flow in a folder that the caller owns."""
    plan = replace(plan, source=plan.source.resolve(), run=plan.run.resolve())
    for left in (plan.run / WORK).glob("*.tmp"):  # of a killed process: whoever owns the run owns these too
        shutil.rmtree(left, ignore_errors=True)
    save_recipe(plan.recipe, plan.run / "recipe.toml")
    write_json(plan.run / "source.json", {"name": plan.source.name})
    run_stages((*STAGES, EVALUATIONS["test"]), plan, use_ray=use_ray)
    return Evaluation.from_json(_made(EVALUATIONS["test"], plan.run))


def evaluate_run(run: Path, recipe: Recipe, *, split: Split = "test") -> Evaluation:
    """Evaluate a trained run on a split; with unchanged inputs the saved result is returned."""
    return Evaluation.from_json(_made_now(EVALUATIONS[split], run, recipe))


def _made_now(stage: Stage, run: Path, recipe: Recipe) -> Any:
    """Run one stage of reports in this process, unless it is current, and return what it wrote."""
    require(run / "manifest.json", remedy=f"run `recsys train DATA --to {run}` first")
    with owned(run):
        run_stages([stage], Plan(source=run, run=run.resolve(), recipe=recipe), use_ray=False)
    return _made(stage, run)


def _made(stage: Stage, run: Path) -> Any:
    return json.loads((stage.folder(run) / stage.files[0]).read_text())


def claim_run(source: Path, run: Path) -> None:
    """Make a folder the run of a data set, or check that it is one.

    Raises:
        CallError: the run would contain its data, or is a URL where only a folder will do.
        ArtifactError: the folder holds what `recsys train` did not make.
    """
    if url_of(run) is not None:
        raise CallError(f"studies and updates must be written to a folder, got --to {url_of(run)}; choose a folder")
    if source.resolve().is_relative_to(run.resolve()):
        raise CallError(f"a run must not contain its data, got --to {run} for {source}; choose another folder")
    Manifest(run).claim()
