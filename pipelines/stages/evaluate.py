"""Stage evaluation: a held-out split, ours beside the baselines."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.job import Job
from pipelines.recipe import Way
from pipelines.record import StageRecord
from pipelines.stages.baselines import TRAINED_BY, load_baselines
from recsys.contracts import Recommender
from recsys.core.artifacts import write_json
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import Split, protocol, questions, training_log
from recsys.evaluation.beyond import TrainingPart
from recsys.evaluation.leave_one_out import Evaluated, evaluate_rows
from recsys.evaluation.results import Cost, Evaluation, EvaluationRow
from recsys.recommender.bundle import load_bundle
from recsys.recommender.evidence import SharedSources, head_of
from recsys.recommender.parts import PARTS, dissected
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.token_recommender import TokenRecommender

OURS = ReasoningRecommender.name
OUR_STAGES = (
    "features",
    "tokenizer",
    "catalog",
    "model",
    "member",
    "further_members",
    "calibrated",
    "experts",
    "students",
    "tokens",
    "aligned",
    "bundle",
)
HEAD_RANKS = "recsys: item head ranks the catalogue"


def contestants(
    job: Job, *, dissect: bool | Sequence[str] = False, ways: bool | Sequence[Way] = False
) -> list[Recommender]:
    """Load our recommender and its rivals from a run, and on demand ours by all or some of its parts.

    Ours is what the bundle serves; with ``ways`` all or some of the other ways to rank with its token experts stand
    beside it.
    """
    bundle = load_bundle(job.parent("bundle"), trace=False, device=job.recipe.device)
    wanted = PARTS if dissect is True else dissect or ()
    others: list[Recommender] = [*load_baselines(job.parent("baselines")), *dissected(bundle.generative, wanted)]
    if ways and bundle.tokens is not None:
        found = beside_served(bundle.generative, bundle.tokens)
        others += [one for way, ranked in found.items() if ways is True or way in ways for one in ranked]
    return [*others, bundle.recommender]


def beside_served(
    generative: ReasoningRecommender[GeneratorScorer], tokens: TokenRanker
) -> dict[Way, list[Recommender]]:
    """Return the ways to rank beside the one that is served; a single expert by itself is ``tokens``."""
    alone, evidence = tokens.tokens_only(), tokens.all_evidence(head_of(generative.scorer))
    not_served = evidence.paths if tokens.choices.search.ranked == "catalogue" else evidence.exact
    head = generative.variant(HEAD_RANKS, generative.config)
    return {
        "experts": [*tokens.alone()] if len(tokens.mixture.codebooks) > 1 else [],
        "tokens": [alone.exact],
        "token paths": [alone.paths],
        "not served": [not_served],
        "item head": [head],
    }


def evaluate_models(job: Job, split: Split) -> None:
    """Evaluate every contestant on a split, seen items kept and removed; write the figures and everybody's ranks."""
    log, config = load_prepared(job.parent("data")).log, job.recipe.evaluation
    queries = questions(log, split)
    if top := config.max_users:
        queries = queries.sample(top, seed=0)  # the same users for every seed of a study
    training = TrainingPart.of(training_log(log))
    shared = SharedSources()
    asking = _rows(job, shared)
    found = evaluate_rows(
        asking,
        queries,
        num_items=log.num_items,
        seed=derive_seed(job.recipe.seed, "bootstrap"),
        training=training,
        clock=shared.clock,
    )
    result = Evaluation(
        dataset=source_name(job.run),
        split=split,
        users=len(queries.histories),
        items=log.num_items,
        seeds=(job.recipe.seed,),
        rows=tuple(_with_cost(one, who, job.records) for one, (who, _) in zip(found, asking, strict=True)),
        protocol=protocol(log),
    )
    figures, arrays = job.stage.files
    write_json(job.out / figures, result.to_json())
    ranks: dict[str, Any] = {f"{one.row.recommender}.{one.row.seen}": one.ranks_U.astype(np.int32) for one in found}
    np.savez_compressed(job.out / arrays, **ranks)


def _rows(job: Job, shared: SharedSources) -> list[tuple[Recommender, bool]]:
    """Return every contestant with and without seen items, by the recipe; token experts share their scores."""
    config = job.recipe.evaluation
    every = contestants(job, dissect=config.dissect, ways=config.ways)
    sharing = [one.sharing(shared) if isinstance(one, TokenRecommender) else one for one in every]
    rows = [(one, seen == "kept") for one in sharing for seen in config.seen]
    # what a product never shows is no evidence about a part
    return [(one, keep_seen) for one, keep_seen in rows if not (keep_seen and one.name in PARTS)]


def _with_cost(evaluated: Evaluated, recommender: Recommender, records: Mapping[str, StageRecord]) -> EvaluationRow:
    """Return a row with what its recommender took."""
    return replace(evaluated.row, cost=_cost(recommender, records, evaluated.seconds / len(evaluated.ranks_U)))


def _cost(recommender: Recommender, records: Mapping[str, StageRecord], seconds: float) -> Cost:
    """Return what a recommender took: ours the stages it needs, a rival its share of one or a stage of its own."""
    name, each = recommender.name, round(seconds * 1000, 3)
    if not name.startswith(OURS):
        own = records["baselines"].timings.get(name)
        trained = records[TRAINED_BY[name]].seconds if own is None else own
        return Cost(train_seconds=trained, milliseconds_a_user=each)
    not_used = _not_used(recommender, experts=records["experts"].timings.keys())
    stages = [records[one] for one in OUR_STAGES if one not in not_used]
    return Cost(
        train_seconds=round(sum(stage.seconds for stage in stages), 2),
        milliseconds_a_user=each,
        peak_memory_mb=float(max(stage.peak_memory_mb for stage in stages)),
        peak_cpu_threads=round(max(stage.cpu_seconds / max(stage.seconds, 1e-9) for stage in stages), 2),
    )


def _not_used(recommender: Recommender, *, experts: Collection[str]) -> tuple[str, ...]:
    """Return which of our stages a way to rank does not need: experts learn from the log, students from all others."""
    if recommender.name == OURS:
        return ()
    if not isinstance(recommender, TokenRecommender):
        return ("experts", "students", "tokens")
    if all(name in experts for name, weight in recommender.evidence.rank_weights.items() if weight):
        return ("model", "member", "further_members", "calibrated", "students", "tokens", "aligned", "bundle")
    return ("aligned", "bundle")


def source_name(run: Path) -> str:
    """Return the name of the data set that a run was trained on."""
    note = run / "source.json"
    return str(json.loads(note.read_text())["name"]) if note.exists() else run.name
