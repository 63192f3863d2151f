"""Bench curves: what more paths and stricter pruning give and cost, on validation users of one run.

The bundle is loaded as a server loads it. All ways to search are timed first, history by history and way by way, on
histories whose encoded states are kept; figures of ranking follow, of evidence that is computed once for all ways.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.benches.measure import Line, timed
from recsys.contracts import History, Recommender, Request, eligible_items, requests_for
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import write_json
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions
from recsys.decoding.item_probabilities import item_probabilities, paths_of
from recsys.evaluation.leave_one_out import evaluate_rows
from recsys.recommender.consistency import observed_divergences
from recsys.recommender.evidence import SharedSources
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.served import load_served
from recsys.recommender.token_experts import TokenExperts
from recsys.recommender.token_recommender import TokenRecommender, observed_jumps

CURVES = Path("reports") / "curves.json"
BEAMS = (1, 2, 4, 8, 16, 32, 64)
WIDER = (*BEAMS, 128)
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
FEWEST = 4
PERPLEXITIES = (4.0, 8.0, 16.0, 32.0, 64.0)
"""For how much perplexity of its distribution over items a history gets one path, beginning at ``FEWEST``."""
USERS, TIMED, OBSERVED = 1000, 200, 500
SHOWN = {
    "recall@10": ("recall@10", "share"),
    "ndcg@10": ("ndcg@10", "share"),
    "tokens_recall@10": ("recall@10 by tokens alone", "share"),
    "tokens_ndcg@10": ("ndcg@10 by tokens alone", "share"),
    "milliseconds": ("ms", "ms"),
}
"""A point's figures, what tables call them, and their units."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to search: ``at`` is its place on the axis that ``by`` names."""

    by: str
    at: float
    recommender: Recommender
    theta: float | None = None
    paths: float
    """How many paths a history gets, on average."""
    pure: TokenRecommender | None = None
    """The same search of token experts, whose probabilities also rank what it reaches."""

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


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What one way to search gives and costs; its first four fields are the trial's."""

    by: str
    at: float
    theta: float | None
    paths: float
    figures: Mapping[str, float]
    """Values by the names in :data:`SHOWN`; a generator has none by tokens alone."""

    def to_json(self) -> dict[str, str | float | None]:
        """Return the point as ``reports/curves.json`` holds it, figures beside the other fields."""
        return {"by": self.by, "at": self.at, "theta": self.theta, "paths": self.paths, **self.figures}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "CurvePoint":
        """Return a point from what :meth:`to_json` returned."""
        figures = {name: row[name] for name in SHOWN if name in row}
        return cls(by=row["by"], at=row["at"], theta=row["theta"], paths=row["paths"], figures=figures)


def bench_curves(run: Path) -> list[Line]:
    """Evaluate what paths propose by their number and by pruning, and write ``reports/curves.json`` of the run.

    The recommender that is served is measured: token experts, whose reached items all evidence ranks, or the
    generator, whose reached items the item head ranks. A threshold is a quantile of the JS divergences that unpruned
    paths show; at quantile 1 nothing is pruned.
    """
    bundle = load_served(run / "bundle")
    log = load_prepared(run / "data").log
    queries = questions(log, "validation").sample(USERS, seed=0)
    ranker = bundle.ranker
    if bundle.tokens is not None and isinstance(ranker, TokenRecommender):
        tried = _of_tokens(ranker, bundle.tokens, queries)
    else:
        tried = _of_generator(bundle.generative.untraced(), queries)
    milliseconds = _milliseconds(tried, queries.histories[:TIMED])
    LOG.info("curves: %d ways to search are timed", len(tried))
    points = _points(tried, milliseconds, queries, num_items=log.num_items)
    content = {"users": len(queries.histories), "timed": TIMED, "points": [point.to_json() for point in points]}
    write_json(run / CURVES, content)
    return [
        Line(what=trial.label, figure=SHOWN[name][0], ours=value, unit=SHOWN[name][1])
        for trial, point in zip(tried, points, strict=True)
        for name, value in point.figures.items()
    ]


def _of_generator(ours: ReasoningRecommender[Any], queries: Questions) -> list[Trial]:
    """Return the generator's trials, which rank what paths reach; the catalogue's ranking does not depend on paths."""
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
        for quantile, theta in _thetas(observed_divergences(free, queries.histories[:OBSERVED]))
    ]
    return beams + thetas


def _of_tokens(served: TokenRecommender, experts: TokenExperts, queries: Questions) -> list[Trial]:
    """Return the trials of token experts: number of paths, paths by need, CORP, Reasoning Pruning, no search."""
    plain: dict[str, Any] = {"ranked": "reached", "corp": False, "theta": None, "pruning": "none", "fewest_paths": None}
    alone = experts.recommender(served.name, experts.choices.token_weights)
    ours, width = served.variant(served.name, **plain), served.config.num_paths

    def trial(by: str, at: float, *, paths: float = width, **search: Any) -> Trial:
        settings = plain | search
        return Trial(
            by=by,
            at=at,
            paths=paths,
            theta=settings["theta"],
            recommender=served.variant(served.name, **settings),
            pure=alone.variant(served.name, **settings),
        )

    efforts = []
    for each in PERPLEXITIES:
        by_need = {"num_paths": WIDER[-1], "fewest_paths": FEWEST, "perplexity_per_path": each}
        mean = _mean_paths(ours.variant(ours.name, **by_need), queries.histories[:OBSERVED])
        efforts.append(trial("effort", each, paths=mean, **by_need))
    thetas = [
        trial("theta", quantile, corp=theta is not None, theta=theta)
        for quantile, theta in _thetas(observed_jumps(ours, queries.histories[:OBSERVED]))
    ]
    return [
        *(trial("beam", paths, paths=paths, num_paths=paths) for paths in WIDER),
        *efforts,
        *thetas,
        *(trial(rule, 0, pruning=rule) for rule in ("mean", "weibull")),
        trial("catalogue", 0, paths=0, ranked="catalogue"),
    ]


def _thetas(seen: FloatArray) -> list[tuple[float, float | None]]:
    """Return each quantile with its threshold; None prunes nothing."""
    return [(at, float(np.quantile(seen, at)) if at < 1 and len(seen) else None) for at in QUANTILES]


def _mean_paths(recommender: TokenRecommender, histories: Sequence[History]) -> float:
    eligible_BN = eligible_items(requests_for(histories, n=1), recommender.index.num_items)
    prob_BN = item_probabilities(recommender.evidence.of(histories)[0], eligible_BN)
    return float(paths_of(prob_BN, recommender.config).mean())


def _points(
    tried: Sequence[Trial], milliseconds: Sequence[float], queries: Questions, *, num_items: int
) -> list[CurvePoint]:
    """Return each trial's figures, seen items removed, and the time that it took."""
    shared = SharedSources()
    rows = [
        (place, prefix, one.sharing(shared) if isinstance(one, TokenRecommender) else one)
        for place, trial in enumerate(tried)
        for prefix, one in (("", trial.recommender), ("tokens_", trial.pure))
        if one is not None
    ]
    found = evaluate_rows([(one, False) for _, _, one in rows], queries, num_items=num_items, seed=0)
    figures: list[dict[str, float]] = [{} for _ in tried]
    for (place, prefix, _), evaluated in zip(rows, found, strict=True):
        figures[place] |= {f"{prefix}{name}": evaluated.row.accuracy[name].value for name in ("recall@10", "ndcg@10")}
    return [
        CurvePoint(by=trial.by, at=trial.at, theta=trial.theta, paths=trial.paths, figures=own | {"milliseconds": each})
        for trial, own, each in zip(tried, figures, milliseconds, strict=True)
    ]


def _milliseconds(tried: Sequence[Trial], histories: Sequence[History]) -> list[float]:
    """Return the median time of each way to search for one history whose states are kept."""
    seconds: list[list[float]] = [[] for _ in tried]
    for history in histories:
        requests = [Request(history=history)]
        tried[0].recommender.recommend(requests)  # encodes the history
        for trial, own in zip(tried, seconds, strict=True):
            own.append(timed(lambda: trial.recommender.recommend(requests)))  # noqa: B023
    return [1000 * float(np.median(own)) for own in seconds]
