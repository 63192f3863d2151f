"""Bench curves: what more paths and stricter pruning give and cost, on validation users of one run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.benches.measure import Line
from recsys.contracts import History, Recommender, Request, eligible_items, requests_for
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import write_json
from recsys.core.telemetry import track
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions
from recsys.decoding.beliefs import item_probabilities, paths_of
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.recommender.bundle import load_bundle
from recsys.recommender.consistency import observed_divergences
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.token_recommender import TokenRecommender, observed_jumps

CURVES = Path("reports") / "curves.json"
BEAMS = (1, 2, 4, 8, 16, 32, 64)
WIDER = (*BEAMS, 128)
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
FEWEST = 4
PERPLEXITIES = (4.0, 8.0, 16.0, 32.0, 64.0)
"""For how much perplexity of its distribution over items a history gets one path, beginning at ``FEWEST``."""
USERS, TIMED, OBSERVED = 2000, 200, 500


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to search: ``at`` is its place on the axis that ``by`` names."""

    by: str
    at: float
    recommender: Recommender
    theta: float | None = None
    paths: float
    """How many paths a history gets, on average."""

    @property
    def label(self) -> str:
        """What the line of the table is called."""
        named = {
            "beam": f"{self.paths:.0f} paths",
            "theta": f"theta at quantile {self.at:.2f}",
            "effort": f"a path for a perplexity of {self.at:g} ({self.paths:.1f} paths)",
            "mean": "Reasoning Pruning by the mean",
            "weibull": "Reasoning Pruning by two Weibull distributions",
            "catalogue": "the whole catalogue ranked, no search",
        }
        return named[self.by]


def bench_curves(run: Path) -> list[Line]:
    """Evaluate what paths propose by their number and by pruning, and write ``reports/curves.json`` of the run.

    Whoever is served is measured: token experts, whose reached items all evidence ranks, or the generator, whose
    reached items the item head ranks. A threshold is a quantile of the JS divergences that unpruned paths show; at
    quantile 1 nothing is pruned.
    """
    torch.set_num_threads(1)
    bundle = load_bundle(run / "bundle", trace=False)
    log = load_prepared(run / "data").log
    asked = questions(log, "validation").sample(USERS, seed=0)
    served = bundle.ranker
    tried = _of_tokens(served, asked) if isinstance(served, TokenRecommender) else _of_generator(served, asked)
    points = [_point(trial, asked, num_items=log.num_items) for trial in track(tried, what="curves", total=len(tried))]
    write_json(run / CURVES, {"users": len(asked.histories), "timed": TIMED, "points": points})
    shown = (("recall@10", "share"), ("ndcg@10", "share"), ("milliseconds", "ms"))
    return [
        Line(what=f"{trial.label}, {key}", ours=float(point[key]), unit=unit)
        for trial, point in zip(tried, points, strict=True)
        for key, unit in shown
    ]


def _of_generator(ours: ReasoningRecommender[Any], asked: Questions) -> list[Trial]:
    """Return the generator's trials, which rank what paths reach: a beam has no say in the catalogue's ranking."""
    base = ours.config.with_ranking(ranked="reached", path_weight=0.0)
    free = ReasoningRecommender(ours.scorer, ours.catalogue, base.with_search(theta=None))
    paths = base.search.num_paths
    beams = [
        Trial(by="beam", at=width, recommender=ours.variant(ours.name, base.with_search(num_paths=width)), paths=width)
        for width in BEAMS
    ]
    thetas = [
        Trial(
            by="theta",
            at=quantile,
            theta=theta,
            recommender=ours.variant(ours.name, base.with_search(theta=theta)),
            paths=paths,
        )
        for quantile, theta in _thetas(observed_divergences(free, asked.histories[:OBSERVED]))
    ]
    return beams + thetas


def _of_tokens(served: TokenRecommender, asked: Questions) -> list[Trial]:
    """Return the trials of token experts: number of paths, paths by need, CORP, Reasoning Pruning, no search."""
    ours = served.variant(served.name, ranked="reached", corp=False, theta=None, pruning="none", fewest_paths=None)
    width = ours.config.num_paths
    beams = [
        Trial(by="beam", at=paths, recommender=ours.variant(ours.name, num_paths=paths), paths=paths) for paths in WIDER
    ]
    by_need = [
        (each, ours.variant(ours.name, num_paths=WIDER[-1], fewest_paths=FEWEST, perplexity_per_path=each))
        for each in PERPLEXITIES
    ]
    efforts = [
        Trial(by="effort", at=each, recommender=one, paths=_mean_paths(one, asked.histories[:OBSERVED]))
        for each, one in by_need
    ]
    thetas = [
        Trial(
            by="theta",
            at=quantile,
            theta=theta,
            recommender=ours.variant(ours.name, corp=theta is not None, theta=theta),
            paths=width,
        )
        for quantile, theta in _thetas(observed_jumps(ours, asked.histories[:OBSERVED]))
    ]
    rules = [
        Trial(by=rule, at=0, recommender=ours.variant(ours.name, pruning=rule), paths=width)
        for rule in ("mean", "weibull")
    ]
    whole = Trial(by="catalogue", at=0, recommender=ours.variant(ours.name, ranked="catalogue"), paths=0)
    return [*beams, *efforts, *thetas, *rules, whole]


def _thetas(seen: FloatArray) -> list[tuple[float, float | None]]:
    """Return each quantile with its threshold; None prunes nothing."""
    return [(at, float(np.quantile(seen, at)) if at < 1 and len(seen) else None) for at in QUANTILES]


def _mean_paths(recommender: TokenRecommender, histories: Sequence[History]) -> float:
    eligible_BN = eligible_items(requests_for(histories, n=1), recommender.index.num_items)
    prob_BN = item_probabilities(recommender.evidence.of(histories)[0], eligible_BN)
    return float(paths_of(prob_BN, recommender.config).mean())


def _point(trial: Trial, asked: Questions, *, num_items: int) -> dict[str, Any]:
    row = evaluate_recommender(trial.recommender, asked, num_items=num_items, keep_seen=False, seed=0).row
    each = [_timed(trial.recommender, history) for history in asked.histories[:TIMED]]
    found = {key: row.accuracy[key].value for key in ("recall@10", "ndcg@10")}
    place = {"by": trial.by, "at": trial.at, "theta": trial.theta, "paths": trial.paths}
    return place | found | {"milliseconds": float(np.median(each))}


def _timed(recommender: Recommender, history: History) -> float:
    began = time.perf_counter()
    recommender.recommend([Request(history=history)])
    return 1000 * (time.perf_counter() - began)
