"""Publishing: a run's bundle becomes a release if the gate lets it pass, and the pointer moves to it."""

from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.changes import changes
from pipelines.execute import WORK
from pipelines.job import REPORTS
from pipelines.recipe import Recipe
from pipelines.releases import Move, ReleaseFolder, ReleaseRecommender
from pipelines.replay import check_provenance, general_categories
from recsys.core.artifacts import require, write_json
from recsys.core.errors import ArtifactError
from recsys.core.lock import owned
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data import schema
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.gate import GateVerdict, apply_gate
from recsys.evaluation.replay import ReplayConfig, replay
from recsys.evaluation.replay_log import own_log
from recsys.recommender.manifest import read_manifest


@dataclass(frozen=True, kw_only=True)
class Published:
    """What publishing did."""

    move: Move
    verdict: GateVerdict | None
    """None for a first release, which has nothing to be compared with."""

    @property
    def words(self) -> str:
        """What happened, in a sentence."""
        if self.verdict is None:
            return f"{self.move.version} is the first release and serves now; there was none to compare it with"
        main = self.verdict.checks[0]
        return f"{self.move.version} replaces {self.move.replaced}: {self.verdict.metric} on {main.words}"


def publish_run(run: Path, recipe: Recipe, *, into: Path | None = None) -> Published:
    """Compare a run's bundle with the current release by replay and make it current if the gate lets it pass.

    Args:
        run: a trained run.
        recipe: its recipe, whose ``[gate]`` is the rule.
        into: the run whose releases are served; None is the run itself.

    Raises:
        ArtifactError: the gate refuses; says which slice fell and by how much. The current release stays.
    """
    require(run / "manifest.json", remedy=f"run `recsys train DATA --to {run}` first")
    if into is not None:
        require(into / "manifest.json", remedy="--into names the run whose releases are served")
    releases = ReleaseFolder(into or run)
    version = read_manifest(run / "bundle").model_version
    now = releases.current()
    if now is not None and now.version == version:
        raise ArtifactError(f"{run} must hold another release than the current one, got {version} again; train first")
    with owned(into or run):
        verdict = None if now is None else gate_verdict(run, recipe, releases.bundle(now.version))
        if verdict is not None and not verdict.passed:
            raise ArtifactError(
                f"release {version} must pass the gate to be current, got {verdict.metric} on "
                f"{verdict.failures}; the current release stays (change [gate] in the recipe to allow it)"
            )
        releases.add(run / "bundle", (into or run) / WORK)
        move = releases.point(version, kind="publish", source=str(run))
    return Published(move=move, verdict=verdict)


def gate_verdict(run: Path, recipe: Recipe, current: Path) -> GateVerdict:
    """Replay a run's held-out events with the current release and the run's bundle, and apply the gate.

    Writes ``reports/gate.json`` beside the run's other reports.
    """
    prepared, rule = load_prepared(run / "data"), recipe.gate
    check_provenance(run, recipe, prepared)
    items = Vocabulary(prepared.items[schema.ITEM].to_pylist())
    both = [
        ReleaseRecommender.load(current, items, name="current"),
        ReleaseRecommender.load(run / "bundle", items, name="candidate"),
    ]
    result = replay(
        both,
        own_log(prepared),
        training=training_log(prepared.log),
        config=ReplayConfig(max_events=rule.max_events),
        categories_N=general_categories(prepared),
        seed=derive_seed(recipe.seed, "gate"),
    )
    verdict = apply_gate(replace(result, log=run.resolve().name), rule)
    for check in verdict.checks:
        LOG.info("gate: %s %s", "passed" if check.passed else "failed", check.words)
    (run / REPORTS).mkdir(exist_ok=True)
    changed = changes(both, prepared, seed=recipe.seed)
    write_json(run / REPORTS / "gate.json", verdict.to_json() | {"changes": changed.to_json()})
    return verdict


def roll_back(run: Path) -> Move:
    """Make the release current that the current one replaced."""
    releases = ReleaseFolder(run)
    with owned(run):
        return releases.point(releases.previous(), kind="rollback")
