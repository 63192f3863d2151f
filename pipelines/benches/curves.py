"""Bench curves: what more paths and stricter pruning give and cost, on validation users of one run.

The bundle is loaded as a server loads it. All ways to search are timed first, history by history and way by way, on
histories whose encoded states are kept; figures of ranking follow, of evidence that is computed once for all ways.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.benches.measure import Line, timed
from recsys.contracts import History, Recommender, Request, eligible_items, requests_for
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import write_json
from recsys.core.telemetry import LOG, track
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions
from recsys.decoding.beliefs import item_probabilities, paths_of
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.recommender.consistency import observed_divergences
from recsys.recommender.evidence import Evidence
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


class KeptEvidence(Evidence):
    """Evidence that is computed once for every history, for trials that differ in the search alone."""

    def __init__(self, evidence: Evidence) -> None:
        belief, rank = ({name: w for name, w in each.items() if w} for each in (evidence.belief, evidence.rank))
        super().__init__(evidence.sources, belief=belief, rank=rank)
        self._kept: dict[bytes, tuple[FloatArray, FloatArray]] = {}

    def of(self, histories: Sequence[History]) -> tuple[FloatArray, FloatArray]:
        """Return the sums that search and that rank, both (histories, items)."""
        keys = [history.items.tobytes() + history.timestamps.tobytes() for history in histories]
        missing = [row for row, key in enumerate(keys) if key not in self._kept]
        if missing:
            belief_BN, rank_BN = super().of([histories[row] for row in missing])
            self._kept |= {keys[row]: (belief_BN[at], rank_BN[at]) for at, row in enumerate(missing)}
        pairs = [self._kept[key] for key in keys]
        return np.stack([belief_N for belief_N, _ in pairs]), np.stack([rank_N for _, rank_N in pairs])

    def ranking(self, histories: Sequence[History]) -> FloatArray:
        """Return the sum that ranks, (histories, items)."""
        return self.of(histories)[1]


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


def bench_curves(run: Path) -> list[Line]:
    """Evaluate what paths propose by their number and by pruning, and write ``reports/curves.json`` of the run.

    Whoever is served is measured: token experts, whose reached items all evidence ranks, or the generator, whose
    reached items the item head ranks. A threshold is a quantile of the JS divergences that unpruned paths show; at
    quantile 1 nothing is pruned.
    """
    bundle = load_served(run / "bundle")
    log = load_prepared(run / "data").log
    asked = questions(log, "validation").sample(USERS, seed=0)
    ranker = bundle.ranker
    if bundle.tokens is not None and isinstance(ranker, TokenRecommender):
        tried = _of_tokens(ranker, bundle.tokens, asked)
    else:
        tried = _of_generator(bundle.generative.untraced(), asked)
    milliseconds = _milliseconds(tried, asked.histories[:TIMED])
    LOG.info("curves: %d ways to search are timed", len(tried))
    _keep_evidence(tried)
    points = [
        _point(trial, asked, num_items=log.num_items) | {"milliseconds": each}
        for trial, each in track(list(zip(tried, milliseconds, strict=True)), what="curves", total=len(tried))
    ]
    write_json(run / CURVES, {"users": len(asked.histories), "timed": TIMED, "points": points})
    return [
        Line(what=trial.label, figure=figure, ours=float(point[key]), unit=unit)
        for trial, point in zip(tried, points, strict=True)
        for key, (figure, unit) in SHOWN.items()
        if key in point
    ]


def _keep_evidence(tried: Sequence[Trial]) -> None:
    """Let trials that share evidence share one copy that keeps what it said."""
    kept: dict[Evidence, KeptEvidence] = {}
    for one in [one for trial in tried for one in (trial.recommender, trial.pure)]:
        if isinstance(one, TokenRecommender):
            one.evidence = kept.setdefault(one.evidence, KeptEvidence(one.evidence))


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


def _of_tokens(served: TokenRecommender, experts: TokenExperts, asked: Questions) -> list[Trial]:
    """Return the trials of token experts: number of paths, paths by need, CORP, Reasoning Pruning, no search."""
    plain: dict[str, Any] = {"ranked": "reached", "corp": False, "theta": None, "pruning": "none", "fewest_paths": None}
    alone = experts.recommender(served.name, experts.choices.belief)
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
        mean = _mean_paths(ours.variant(ours.name, **by_need), asked.histories[:OBSERVED])
        efforts.append(trial("effort", each, paths=mean, **by_need))
    thetas = [
        trial("theta", quantile, corp=theta is not None, theta=theta)
        for quantile, theta in _thetas(observed_jumps(ours, asked.histories[:OBSERVED]))
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


def _point(trial: Trial, asked: Questions, *, num_items: int) -> dict[str, Any]:
    found: dict[str, Any] = {"by": trial.by, "at": trial.at, "theta": trial.theta, "paths": trial.paths}
    for prefix, recommender in (("", trial.recommender), ("tokens_", trial.pure)):
        if recommender is not None:
            row = evaluate_recommender(recommender, asked, num_items=num_items, keep_seen=False, seed=0).row
            found |= {f"{prefix}{key}": row.accuracy[key].value for key in ("recall@10", "ndcg@10")}
    return found


def _milliseconds(tried: Sequence[Trial], histories: Sequence[History]) -> list[float]:
    """Return the median time of each way to search for one history whose states are kept."""
    seconds: list[list[float]] = [[] for _ in tried]
    for history in histories:
        requests = [Request(history=history)]
        tried[0].recommender.recommend(requests)  # encodes the history
        for trial, own in zip(tried, seconds, strict=True):
            own.append(timed(lambda: trial.recommender.recommend(requests)))  # noqa: B023
    return [1000 * float(np.median(own)) for own in seconds]
