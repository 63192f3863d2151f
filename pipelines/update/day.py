"""Stage day: what the day was like beside those before it, what the update gained, and whether to train in full."""

import json
from pathlib import Path

import numpy as np

from pipelines.job import REPORTS, Job
from pipelines.update.stages import OF_DAY
from recsys.codes.catalogue import Catalogue
from recsys.contracts import Recommender
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.artifacts import write_json
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data.events import EventLog
from recsys.data.prepare import Prepared, load_prepared
from recsys.data.splits import Questions, questions
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.evaluation.results import Evaluation
from recsys.features.assemble import FeatureBuilder
from recsys.recommender.bundle import load_bundle
from recsys.recommender.day_drift import DayFacts, Scores, assess_day
from recsys.recommender.drift import Drift
from recsys.recommender.reasoning import ReasoningRecommender

REFERENCE_DAYS = 5
"""The reference is so many times as many events as the day has, those just before it."""


def report_day(job: Job, previous: Path) -> None:
    """Write ``reports/day.json``: drift of events, items, categories, codes and scores, and the advice."""
    prepared = load_prepared(job.parent("data"))
    log, of_day_E = prepared.log, np.load(job.parent("data") / OF_DAY)
    catalogue = Catalogue.load(job.parent("catalog"))
    trained = len(Catalogue.load(previous / "catalog").item_ids)
    facts = DayFacts(
        reference_items_E=_just_before(log, of_day_E),
        day_items_E=log.items_E[of_day_E],
        category_N=catalogue.category_N,
        codes_NM=catalogue.codes_NM,
        fitted=FeatureBuilder.load(job.parent("features")).fitted,
        trained=trained,
        updates=job.recipe.update.updates,
        items=Drift.from_json(json.loads((job.parent("catalog") / "drift.json").read_text())),
        scores=_scores(job, previous, prepared, of_day_E, trained=trained),
    )
    drift = assess_day(facts, job.recipe.update.bounds)
    LOG.info("day: %s", drift.sentence)
    write_json(job.out / "day.json", drift.to_json())


def _just_before(log: EventLog, of_day_E: BoolArray) -> IntArray:
    """Return the items of the newest events that the day did not bring."""
    before_E = np.flatnonzero(~of_day_E)
    newest_E = before_E[np.argsort(log.timestamps_E[before_E], kind="stable")]
    return log.items_E[newest_E[-REFERENCE_DAYS * int(of_day_E.sum()) :]]


def _scores(job: Job, previous: Path, prepared: Prepared, of_day_E: BoolArray, *, trained: int) -> Scores | None:
    """Compare both models on users whose test event the day brought; None where there is none, or a cut in time."""
    log = prepared.log
    if log.cuts is not None:
        return None
    queries = questions(log, "test")
    of_day_U = of_day_E[log.offsets_U1[queries.users_U + 1] - 1]
    if not of_day_U.any():
        return None
    places = np.flatnonzero(of_day_U)
    queries = Questions(
        users_U=queries.users_U[places],
        histories=[queries.histories[place] for place in places.tolist()],
        targets_U=queries.targets_U[places],
    ).sample(job.recipe.update.max_users, seed=derive_seed(job.recipe.seed, "day"))
    before = load_bundle(previous / "bundle", trace=False)
    if log.num_items > trained:
        before = before.with_items(prepared.items.slice(trained))
    after = load_bundle(job.parent("bundle"), trace=False)
    return Scores(
        questions=len(queries.targets_U),
        before=_ndcg(before.recommender, queries, log.num_items),
        after=_ndcg(after.recommender, queries, log.num_items),
        own_test=_own_test(previous),
    )


def _ndcg(recommender: Recommender, queries: Questions, num_items: int) -> float:
    evaluated = evaluate_recommender(recommender, queries, num_items=num_items, keep_seen=False, seed=0)
    return evaluated.row.accuracy["ndcg@10"].value


def _own_test(previous: Path) -> float | None:
    """Return NDCG@10 of the model before the update on its own test, seen items removed, if it was evaluated."""
    path = previous / REPORTS / "evaluation.json"
    if not path.exists():
        return None
    rows = Evaluation.from_json(json.loads(path.read_text(encoding="utf-8"))).rows
    found = [row for row in rows if row.recommender == ReasoningRecommender.name and row.seen == "removed"]
    return found[0].accuracy["ndcg@10"].value if found else None
