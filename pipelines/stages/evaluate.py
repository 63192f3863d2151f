"""Stage evaluate: leave-one-out beside the baselines, and replay in time order."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.recipe import Recipe
from pipelines.stages.baselines import load_baselines
from pipelines.stages.tokens import head_log_probs
from recsys.contracts import Recommender
from recsys.core.artifacts import Manifest, hash_value, require, write_json
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import Split, held_out_events, questions, training_log
from recsys.evaluation.beyond import TrainingPart
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.evaluation.replay import replay
from recsys.evaluation.replay_results import Replay
from recsys.evaluation.results import Cost, Evaluation, EvaluationRow
from recsys.model.generator import Generator
from recsys.recommender.bundle import load_bundle
from recsys.recommender.parts import PARTS, dissected
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.token_ranker import PATHS_PROPOSE, TokenRanker
from recsys.recommender.token_recommender import TokenRecommender

OURS = ReasoningRecommender.name
OUR_STAGES = ("features", "tokenizer", "catalog", "model", "member", "calibrated", "aligned", "bundle")
TOKENS = "tokens"
TOKEN_STAGES = ("features", "tokenizer", "catalog", "model", "member", "calibrated", "experts", "tokens")
"""What the rows of token models need: their experts, and the item head that teaches them and ranks beside them."""


def contestants(run: Path, *, dissect: bool | Sequence[str] = False) -> list[Recommender]:
    """Load our recommender and its rivals from a run, and on demand ours by all or some of its parts."""
    remedy = f"run `recsys train DATA --to {run}` first"
    require(run / "bundle" / "manifest.json", remedy=remedy)
    ours = load_bundle(run / "bundle", trace=False).recommender
    wanted = PARTS if dissect is True else dissect or ()
    return [*load_baselines(run / "baselines"), *dissected(ours, wanted), *token_recommenders(run), ours]


def token_recommenders(run: Path) -> list[TokenRecommender]:
    """Load the ways to rank by token paths that a run with experts has, none in a run without."""
    if not (run / "tokens" / "choices.json").exists():
        return []
    head = head_log_probs(Generator.load(run / "calibrated"))
    return TokenRanker.load(run / "tokens").recommenders(head)


def evaluate_run(run: Path, recipe: Recipe, *, split: Split = "test") -> Evaluation:
    """Evaluate a run on a split, seen items kept and removed; with unchanged inputs the saved result is returned."""
    require(run / "data" / "events.parquet", remedy=f"run `recsys train DATA --to {run}` first")
    entries = Manifest(run).read()
    name = "evaluation" if split == "test" else f"evaluation-{split}"
    parents = [entries[stage]["files"] for stage in ("data", "bundle", "baselines", "tokens") if stage in entries]
    key = hash_value([parents, recipe.section(("evaluation",)), split])
    path = run / "reports" / f"{name}.json"
    if entries.get(name, {}).get("key") == key and path.exists():
        return Evaluation.from_json(_read(path))
    log = load_prepared(run / "data").log
    asked = questions(log, split)
    if top := recipe.evaluation.max_users:
        asked = asked.sample(top, seed=0)  # the same users for every seed of a study
    seconds = _train_seconds(run, entries)
    training = TrainingPart.of(training_log(log))
    rows: list[EvaluationRow] = []
    ranks: dict[str, Any] = {}
    for recommender in contestants(run, dissect=recipe.evaluation.dissect):
        for keep_seen in (seen == "kept" for seen in recipe.evaluation.seen):
            if keep_seen and recommender.name in PARTS:
                continue  # what a product never shows says nothing about a part
            began = time.perf_counter()
            LOG.info("evaluating %s, seen items %s", recommender.name, "kept" if keep_seen else "removed")
            evaluated = evaluate_recommender(
                recommender,
                asked,
                num_items=log.num_items,
                keep_seen=keep_seen,
                seed=derive_seed(recipe.seed, "bootstrap"),
                training=training,
            )
            each = (time.perf_counter() - began) / len(asked.histories)
            cost = Cost(
                train_seconds=seconds.get(_trained_as(recommender), 0.0),
                milliseconds_a_user=round(each * 1000, 3),
                **(_machine_cost(entries) if recommender.name == OURS else {}),
            )
            rows.append(replace(evaluated.row, cost=cost))
            ranks[f"{evaluated.row.recommender}.{evaluated.row.seen}"] = evaluated.ranks_U.astype(np.int32)
    result = Evaluation(
        dataset=_source_name(run),
        split=split,
        users=len(asked.histories),
        items=log.num_items,
        seeds=(recipe.seed,),
        rows=tuple(rows),
    )
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path.with_name("ranks.npz" if split == "test" else f"ranks-{split}.npz"), **ranks)
    write_json(path, result.to_json())
    Manifest(run).record(name, {"key": key})
    return result


def replay_run(run: Path, recipe: Recipe) -> Replay:
    """Replay the run's own log in time order and write ``reports/replay.json``."""
    log = load_prepared(require(run / "data", remedy=f"run `recsys train DATA --to {run}` first")).log
    seed = derive_seed(recipe.seed, "replay")
    asked = [one for one in contestants(run) if not isinstance(one, TokenRecommender) or one.name == PATHS_PROPOSE]
    result = replace(replay(asked, log, seed=seed, askable_E=held_out_events(log)), log=_source_name(run))
    (run / "reports").mkdir(exist_ok=True)
    write_json(run / "reports" / "replay.json", result.to_json())
    return result


def _train_seconds(run: Path, entries: Mapping[str, Any]) -> dict[str, float]:
    ours, tokens = (
        round(sum(entries[stage]["seconds"] for stage in stages if stage in entries), 2)
        for stages in (OUR_STAGES, TOKEN_STAGES)
    )
    timings = run / "timings" / "baselines.json"
    return {OURS: ours, TOKENS: tokens} | (_read(timings) if timings.exists() else {})


def _trained_as(recommender: Recommender) -> str:
    """Return the name under which a recommender's training time is kept."""
    return TOKENS if isinstance(recommender, TokenRecommender) else recommender.name


def _machine_cost(entries: Mapping[str, Any]) -> dict[str, float]:
    """Return the most memory and the most processor time per second that any of our stages took."""
    ours = [entries[stage] for stage in OUR_STAGES if "peak_memory_mb" in entries.get(stage, {})]
    if not ours:
        return {}
    threads = max(entry["cpu_seconds"] / max(entry["seconds"], 1e-9) for entry in ours)
    return {
        "peak_memory_mb": float(max(entry["peak_memory_mb"] for entry in ours)),
        "peak_cpu_threads": round(threads, 2),
    }


def _source_name(run: Path) -> str:
    note = run / "source.json"
    return str(_read(note)["name"]) if note.exists() else run.name


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values
