"""Bench curves: what a wider beam and a stricter pruning of paths give and cost, on validation users of one run."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.benches.measure import Line
from recsys.contracts import History, Request
from recsys.core.artifacts import write_json
from recsys.core.telemetry import track
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions
from recsys.decoding.config import DecoderConfig
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.recommender.bundle import load_bundle
from recsys.recommender.consistency import observed_divergences
from recsys.recommender.reasoning import ReasoningRecommender

CURVES = Path("reports") / "curves.json"
BEAMS = (1, 2, 4, 8, 16, 32, 64)
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
USERS, TIMED = 2000, 200


def bench_curves(run: Path) -> list[Line]:
    """Evaluate what paths propose by beam width and by pruning threshold, and write ``reports/curves.json`` of the run.

    Only items that paths reach are ranked, for a beam has no say in the ranking of the whole catalogue. A threshold is
    a quantile of the JS divergences that the best paths show; at quantile 1 nothing is pruned.
    """
    torch.set_num_threads(1)
    ours = load_bundle(run / "bundle", trace=False).generative
    log = load_prepared(run / "data").log
    asked = questions(log, "validation").sample(USERS, seed=0)
    base = ours.config.with_ranking(ranked="reached", path_weight=0.0)
    free = ReasoningRecommender(ours.scorer, ours.catalogue, base.with_search(theta=None))
    seen = observed_divergences(free, asked.histories[:500])
    tried = [("beam", float(width), base.with_search(num_paths=width)) for width in BEAMS]
    for quantile in QUANTILES:
        theta = float(np.quantile(seen, quantile)) if quantile < 1 and len(seen) else None
        tried.append(("theta", quantile, base.with_search(theta=theta)))
    points = [
        {"by": by, "at": at, "theta": config.search.theta} | _point(ours, config, asked, num_items=log.num_items)
        for by, at, config in track(tried, what="curves", total=len(tried))
    ]
    write_json(run / CURVES, {"users": len(asked.histories), "timed": TIMED, "points": points})
    return [_line(point, *shown) for point in points for shown in (("recall@10", "share"), ("milliseconds", "ms"))]


def _point(
    ours: ReasoningRecommender[Any], config: DecoderConfig, asked: Questions, *, num_items: int
) -> dict[str, float]:
    variant = ours.variant(ours.name, config)
    row = evaluate_recommender(variant, asked, num_items=num_items, keep_seen=False, seed=0).row
    each = [_timed(variant, history) for history in asked.histories[:TIMED]]
    found = {key: row.accuracy[key].value for key in ("recall@10", "ndcg@10")}
    return found | {"milliseconds": float(np.median(each))}


def _timed(recommender: ReasoningRecommender[Any], history: History) -> float:
    began = time.perf_counter()
    recommender.recommend([Request(history=history)])
    return 1000 * (time.perf_counter() - began)


def _line(point: dict[str, Any], key: str, unit: str) -> Line:
    at = f"{point['at']:.0f} paths" if point["by"] == "beam" else f"theta at quantile {point['at']:.2f}"
    return Line(what=f"{at}, {key}", ours=float(point[key]), unit=unit)
