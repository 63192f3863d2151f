"""The search of token paths on validation: whether pruning pays, and whether the probabilities of paths hold.

Axes: B row, N item, P path, C item of a path, U user.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.contracts import ItemScores, eligible_items, requests_for
from recsys.core.arrays import Float64Array
from recsys.core.artifacts import write_json
from recsys.core.ranking import ndcg_at
from recsys.core.seeds import rng_for
from recsys.data.splits import Questions
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.item_probabilities import item_probabilities
from recsys.evaluation.intervals import paired_difference
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.model.tokens.mixture import TokenMixture
from recsys.recommender.faithfulness import facet_ablation
from recsys.recommender.token_config import TokensConfig
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.token_recommender import TokenRecommender, observed_jumps
from recsys.recommender.weights import DEPTH

RELIABILITY = "reliability.json"
NO_PRUNING = "no pruning"
BINS = 12
_BATCH = 32


def restrict_codebooks(
    config: TokensConfig, mixture: TokenMixture, rank_weights: Mapping[str, float]
) -> MarginalSearchConfig:
    """Return the search held to codebooks whose experts' weight is at least a share of the largest such weight.

    Weights are those of the probabilities that paths are searched by; those of tokens alone where no expert has a
    weight in all evidence. A search that names its codebooks is returned as it is.
    """
    search, weight_M = config.search, mixture.codebook_weights()
    if config.paths_by == "all" and any(rank_weights.get(name) for name in mixture.codebooks):
        weight_M = mixture.codebook_weights(rank_weights)
    # a millionth less is as much: weights are in float32, and rounding must not decide
    counts_M = weight_M >= config.min_codebook_weight * weight_M.max() * (1 - 1e-6)
    if search.codebooks or counts_M.all():
        return search
    return search.model_copy(update={"codebooks": tuple(np.flatnonzero(counts_M).tolist())})


def choose_search(ranker: TokenRanker, head: ItemScores, queries: Questions, config: TokensConfig) -> TokenRanker:
    """Return the ranker with its search as it ranks best on validation, and a note of what was tried.

    Pruning is kept where it is surely better than none. Where what paths reach, ranked by all evidence, loses more than
    ``paths_margin`` of ranking the whole catalogue, paths are doubled, up to ``most_paths``; where these lose more,
    too, the catalogue is ranked.
    """
    search = ranker.choices.search
    pruning, pruned_U, figures = _best_pruning(ranker, head, queries, config)
    ways = ranker.all_evidence(head)
    exact_U = _gains(ways.exact, queries)
    figures["all evidence on the catalogue"] = float(exact_U.mean())
    num_paths, found_U = search.num_paths, pruned_U
    while found_U.mean() < (1 - config.paths_margin) * exact_U.mean():
        num_paths *= 2
        if num_paths > config.most_paths:
            pruning |= {"ranked": "catalogue"}
            num_paths = search.num_paths
            break
        found_U = _gains(ways.paths.variant("", **pruning, num_paths=num_paths), queries)
        figures[f"{num_paths} paths: all evidence on paths"] = float(found_U.mean())
    return _noting(_with_search(ranker, search.model_copy(update={**pruning, "num_paths": num_paths})), figures)


def _best_pruning(
    ranker: TokenRanker, head: ItemScores, queries: Questions, config: TokensConfig
) -> tuple[dict[str, Any], Float64Array, dict[str, float]]:
    """Return the settings of the best pruning, each user's NDCG@10 with it, and the figures of all that were tried.

    All are tried on what paths reach, ranked by all evidence; the figures of pure paths are kept beside them.
    """
    off: dict[str, Any] = {"corp": False, "theta": None, "pruning": "none"}
    tokens, evidence = ranker.tokens_only().paths.variant("", **off), ranker.all_evidence(head).paths.variant("", **off)
    jumps = observed_jumps(evidence, queries.histories)
    theta = float(np.quantile(jumps, config.theta_quantile)) if len(jumps) else None
    tried: dict[str, dict[str, Any]] = {
        NO_PRUNING: off,
        "CORP": {**off, "corp": True, "theta": theta},
        "Reasoning Pruning by the mean": {**off, "pruning": "mean"},
        "Reasoning Pruning by two Weibull distributions": {**off, "pruning": "weibull"},
    }
    served = {label: _gains(evidence.variant(label, **settings), queries) for label, settings in tried.items()}
    figures: dict[str, float] = {}
    for label, settings in tried.items():
        figures[f"{label}: tokens by paths"] = float(_gains(tokens.variant(label, **settings), queries).mean())
        figures[f"{label}: all evidence on paths"] = float(served[label].mean())
    best = max(tried, key=lambda label: served[label].mean())
    _, low, _ = paired_difference(served[best], served[NO_PRUNING], rng_for(0, "pruning"))
    best = best if low > config.pruning_margin else NO_PRUNING
    return tried[best], served[best], figures


def with_faithfulness(ranker: TokenRanker, head: ItemScores, queries: Questions, seed: int) -> TokenRanker:
    """Return the ranker with a note of how far first items fall by tokens without the facets of their paths.

    There is no note where no path leaves as many codebooks as it took, so that nothing was measured.
    """
    slates = ranker.all_evidence(head, trace=True).paths.recommend(requests_for(queries.histories, n=1))
    found = facet_ablation(ranker.mixture, queries.histories, slates, rng_for(seed, "faithfulness"))
    if not found.items:
        return ranker
    notes = {"fall without the path's facets": found.path, "fall without random facets": found.random}
    return _noting(ranker, notes)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Paths of like probability: the mean of their probabilities, and how often the next item was among theirs."""

    predicted: float
    observed: float
    paths: int


def reliability(ranker: TokenRanker, head: ItemScores, queries: Questions) -> list[Bin]:
    """Return bins of equal numbers of searched paths, the least probable first.

    A path's probability is that the next item is one of those that it leads to; seen items are left out on both
    sides, and so are users whose next item is one that they have.
    """
    queries = queries.take(
        np.array(
            [
                row
                for row, (history, target) in enumerate(zip(queries.histories, queries.targets_U, strict=True))
                if target not in history.items
            ],
            np.int64,
        )
    )
    recommender = ranker.all_evidence(head).paths
    categories = recommender.categories if recommender.config.corp else None
    predicted, observed = [np.empty(0)], [np.empty(0, np.bool_)]
    for start in range(0, len(queries.targets_U), _BATCH):
        batch = queries.take(np.arange(start, min(start + _BATCH, len(queries.targets_U))))
        eligible_BN = eligible_items(requests_for(batch.histories, n=1), recommender.index.num_items)
        prob_BN = item_probabilities(recommender.evidence.of(batch.histories)[0], eligible_BN)
        search = recommender.searcher(recommender.index, prob_BN, recommender.config, categories=categories)
        beam = search.run(np.arange(len(batch.histories)), eligible_BN)
        path_C = np.repeat(np.arange(len(beam)), beam.candidates.sizes_P)
        hit_C = beam.candidates.items_C == batch.targets_U[beam.row_P[path_C]]
        predicted.append(np.exp(beam.log_prob_P))
        observed.append(np.bincount(path_C, weights=hit_C, minlength=len(beam)) > 0)
    predicted_P, observed_P = np.concatenate(predicted), np.concatenate(observed)
    parts = np.array_split(np.argsort(predicted_P, kind="stable"), BINS)
    return [
        Bin(predicted=float(predicted_P[part].mean()), observed=float(observed_P[part].mean()), paths=len(part))
        for part in parts
        if len(part)
    ]


def save_reliability(bins: list[Bin], folder: Path, *, users: int) -> None:
    """Write ``reliability.json`` into a folder."""
    write_json(folder / RELIABILITY, {"users": users, "bins": [asdict(one) for one in bins]})


def _with_search(ranker: TokenRanker, search: MarginalSearchConfig) -> TokenRanker:
    return replace(ranker, choices=ranker.choices.model_copy(update={"search": search}))


def _noting(ranker: TokenRanker, figures: Mapping[str, float]) -> TokenRanker:
    """Return the ranker with more figures among those of validation."""
    validation = {**ranker.choices.validation, **figures}
    return replace(ranker, choices=ranker.choices.model_copy(update={"validation": validation}))


def _gains(recommender: TokenRecommender, queries: Questions) -> Float64Array:
    """Return NDCG@10 of each user, seen items removed."""
    evaluated = evaluate_recommender(
        recommender, queries, num_items=recommender.index.num_items, keep_seen=False, seed=0
    )
    return ndcg_at(evaluated.ranks_U, DEPTH)
