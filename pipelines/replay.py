"""Replaying a log with what a run trained, after checking that training cannot have seen it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

from pipelines.execute import Plan, is_current, stage_key, stage_settings
from pipelines.flow import EVALUATED, STAGES
from pipelines.job import REPORTS, Job, Stage
from pipelines.recipe import Recipe
from pipelines.record import StageRecord, read_records
from pipelines.remote import RemoteRecommender
from pipelines.stages.evaluate import contestants, source_name
from recsys.contracts import Recommender
from recsys.core.artifacts import require, write_json
from recsys.core.errors import ArtifactError
from recsys.core.lock import owned
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data import schema
from recsys.data.prepare import Prepared, load_prepared
from recsys.data.splits import SECONDS_PER_DAY, training_log
from recsys.data.table import read_dataset
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.ab import ABResult, arms_of, compare_arms
from recsys.evaluation.off_policy.logged import has_propensities, logged_requests
from recsys.evaluation.off_policy_replay import off_policy_rows
from recsys.evaluation.replay import ReplayConfig, replay
from recsys.evaluation.replay_log import ReplayLog, joined_log, own_log, unanswerable
from recsys.evaluation.replay_results import OffPolicyRow, Replay, ShownRanking
from recsys.evaluation.shown import rank_shown, shown_groups

SEEN = (
    "Without a global cut training may have seen what came of logged requests, which flatters off-policy estimates and "
    "the ranking of what was shown."
)
NO_PROPENSITIES = (
    "The log has impressions without propensities: what another policy would have earned cannot be estimated from it."
)
REPLAYED = ("data", "baselines", "bundle")
"""The stages whose folders a replay reads."""
UPDATED = "day"
"""The stage that only runs of `recsys update` have."""


@dataclass(frozen=True, kw_only=True)
class ReplayCall:
    """The call of a replay: which log, which recommenders, how."""

    log: Path | None = None
    """A folder in the data contract; None replays the run's own log."""
    url: str | None = None
    """A server to ask beside the run's recommenders, over HTTP."""
    recommenders: tuple[str, ...] = ()
    """Which of the run's recommenders are replayed; empty replays all."""
    config: ReplayConfig = field(default_factory=ReplayConfig)
    """How to replay."""


def replay_run(run: Path, recipe: Recipe, call: ReplayCall | None = None) -> Replay:
    """Replay a log in time order and write ``reports/replay.json``."""
    call = call or ReplayCall()
    require(run / "manifest.json", remedy=f"run `recsys train DATA --to {run}` first")
    with owned(run), stage_settings(recipe.threads):
        prepared = load_prepared(run / "data")
        check_provenance(run, recipe, prepared)
        dataset = None if call.log is None else read_dataset(call.log)
        replayed = own_log(prepared) if dataset is None else joined_log(prepared, dataset)
        _warn(replayed)
        chosen = _chosen(run, recipe, prepared, call)
        seed = derive_seed(recipe.seed, "replay")
        impressions = None if dataset is None else dataset.impressions
        reason = unanswerable(replayed)
        if reason and has_propensities(impressions):
            result = Replay(rows=(), note=f"{reason}.", split=replayed.split, counts=replayed.counts)
        else:
            result = replay(
                chosen,
                replayed,
                training=training_log(prepared.log),
                config=call.config,
                categories_N=general_categories(prepared),
                seed=seed,
            )
        result = replace(result, counts={**result.counts, **_degraded(chosen)})
        if impressions is not None:
            result = with_off_policy(result, chosen, replayed, prepared, impressions=impressions, seed=seed)
            result = replace(result, shown=_shown(chosen, replayed, prepared, impressions=impressions, seed=seed))
        result = replace(result, log=source_name(run) if call.log is None else call.log.resolve().name)
        (run / REPORTS).mkdir(exist_ok=True)
        write_json(run / REPORTS / "replay.json", result.to_json())
    return result


def with_off_policy(
    result: Replay,
    chosen: Sequence[Recommender],
    replayed: ReplayLog,
    prepared: Prepared,
    *,
    impressions: pa.Table,
    seed: int,
) -> Replay:
    """Return the replay with what each recommender would have earned on the log's impressions.

    With a global cut only requests from the cut on are used: training may have seen what came of earlier ones.
    """
    seen = f" {SEEN}" if prepared.log.cuts is None else ""
    result = replace(result, ab=ab_results(impressions), note=result.note + seen)
    if not has_propensities(impressions):
        return replace(result, note=f"{result.note} {NO_PROPENSITIES}")
    items = Vocabulary(prepared.items[schema.ITEM].to_pylist())
    rows: list[OffPolicyRow] = []
    for logged in logged_requests(impressions, items, prepared.users):
        usable = logged if prepared.log.cuts is None else logged.since(prepared.log.cuts.test)
        if len(usable):
            rows += off_policy_rows(chosen, replayed.log, usable, seed=seed)
    return replace(result, off_policy=tuple(rows))


def _shown(
    chosen: Sequence[Recommender], replayed: ReplayLog, prepared: Prepared, *, impressions: pa.Table, seed: int
) -> ShownRanking | None:
    """Return how each recommender ranks what the log showed; with a global cut, what it showed from the cut on.

    A server is left out: it cannot be held to what was shown.
    """
    items = Vocabulary(prepared.items[schema.ITEM].to_pylist())
    since = None if prepared.log.cuts is None else prepared.log.cuts.test
    held = [one for one in chosen if not isinstance(one, RemoteRecommender)]
    groups = shown_groups(impressions, items, prepared.users, since=since)
    return rank_shown(held, replayed.log, groups, seed=seed) if held else None


def ab_results(impressions: pa.Table) -> tuple[ABResult, ...]:
    """Compare the users of each policy of the impressions with those of the first; none where there is one policy."""
    if schema.POLICY not in impressions.column_names or impressions[schema.TIMESTAMP].null_count:
        return ()
    policies = [str(name) for name in impressions[schema.POLICY].to_pylist()]
    users, rewards = impressions[schema.USER].to_pylist(), impressions[schema.REWARD].to_pylist()
    arms, crossed = arms_of(users, policies, rewards)
    names = [name for name in dict.fromkeys(policies) if len(arms.get(name, ())) > 1]
    times = impressions[schema.TIMESTAMP].to_numpy()
    days = max(float(times.max() - times.min()) / SECONDS_PER_DAY, 1 / SECONDS_PER_DAY)
    return tuple(
        compare_arms(arms[names[0]], arms[name], names=(names[0], name), days=days, crossed_users=crossed)
        for name in names[1:]
    )


def check_provenance(run: Path, recipe: Recipe, prepared: Prepared) -> None:
    """Raise unless what is replayed is what the run's stages made, from the very split that the run's data names.

    A recommender that was fitted on other events, or data whose cut was moved after training, would be asked about
    what it learned from.

    Raises:
        ArtifactError: names the stage.
    """
    records = read_records(run)
    stages = {stage.name: stage for stage in STAGES}
    for name in REPLAYED:
        if name in records and not is_current(stages[name], run, records[name].key):
            raise ArtifactError(
                f"{run / name} must be as its stage left it, got other files, maybe fitted on target events; "
                f"run `recsys train DATA --to {run}` again"
            )
    if prepared.log.cuts is None or UPDATED in records:
        return  # the stages of an update go on from another run: their keys are not those of a training
    plan = Plan(source=run, run=run, recipe=recipe)
    for stage in STAGES:
        if stage.reads_source or not _made_now(records, (stage.name, *stage.parents)):
            continue
        if stage_key(stage, plan, [records[parent] for parent in stage.parents]) != records[stage.name].key:
            raise ArtifactError(
                f"{run / stage.name} must be made from this run's data and recipe, got another's: it may have been "
                f"fitted on target events; run `recsys train DATA --to {run}` again"
            )


def _made_now(records: Mapping[str, StageRecord], names: Sequence[str]) -> bool:
    """Return whether these stages are recorded, made by this version, whose keys can be computed again."""
    known = all(name in records for name in names)
    return known and records[names[0]].versions.get("recsys") == version("recsys")


def general_categories(prepared: Prepared) -> list[str | None] | None:
    """Return the most general category of each item; None where items have none."""
    if schema.CATEGORIES not in prepared.items.column_names:
        return None
    lists = prepared.items[schema.CATEGORIES].to_pylist()
    found = [str(names[0]) if names else None for names in lists]
    return found if any(found) else None


def _chosen(run: Path, recipe: Recipe, prepared: Prepared, call: ReplayCall) -> list[Recommender]:
    """Return the recommenders to replay; ours, or the server where one is given, comes last."""
    stage = Stage(name="replay", work=lambda _: None, parents=EVALUATED, sections=("device",))
    job = Job(stage=stage, run=run, out=run, data_set=run, resolved=recipe, checkpoints=run)
    every = contestants(job)
    chosen: list[Recommender] = [one for one in every if not call.recommenders or one.name in call.recommenders]
    if call.url is not None:
        items = Vocabulary(prepared.items[schema.ITEM].to_pylist())
        chosen.append(RemoteRecommender(call.url, items, key=os.environ.get("RECSYS_API_KEY", "")))
    if not chosen:
        names = [one.name for one in every]
        raise ArtifactError(f"recommenders must be among {names}, got {list(call.recommenders)}; name some of these")
    return chosen


def _degraded(chosen: Sequence[Recommender]) -> dict[str, int]:
    """Return how many answers of a server did not come from its model."""
    counted = [one.degraded for one in chosen if isinstance(one, RemoteRecommender)]
    if any(counted):
        LOG.warning("%d answers of the server did not come from its model", sum(counted))
    return {"answered by the server without its model": sum(counted)} if counted else {}


def _warn(replayed: ReplayLog) -> None:
    for name in ("of unknown items", "of unknown users"):
        if replayed.counts.get(name):
            LOG.warning("%s of the log's %s events are %s", replayed.counts[name], replayed.counts["events"], name)
