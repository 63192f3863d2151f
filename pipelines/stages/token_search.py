"""What validation says of the search of token paths: whether pruning pays, and whether paths name what counts."""

from dataclasses import replace

import numpy as np

from recsys.contracts import ItemScores, requests_for
from recsys.core.seeds import rng_for
from recsys.data.splits import Questions
from recsys.decoding.config import BeliefSearchConfig
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.recommender.faithfulness import facet_ablation
from recsys.recommender.token_config import TokensConfig
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.token_recommender import TokenRecommender, observed_jumps


def choose_pruning(ranker: TokenRanker, head: ItemScores, asked: Questions, config: TokensConfig) -> TokenRanker:
    """Return the ranker with CORP where it ranks better on validation by the margin, else without.

    Both are tried on what paths reach, ranked by all evidence; the figures of pure paths are kept beside them.
    """
    off = config.search.model_copy(update={"corp": False, "theta": None})
    pure = _with_search(ranker, off).recommenders(head)[1]
    jumps = observed_jumps(pure, asked.histories)
    theta = float(np.quantile(jumps, config.theta_quantile)) if len(jumps) else None
    on = config.search.model_copy(update={"corp": True, "theta": theta})
    figures: dict[str, float] = {}
    for label, search in (("CORP off", off), ("CORP on", on)):
        _, paths, served, _ = _with_search(ranker, search).recommenders(head)
        figures[f"{label}: tokens by paths"] = _ndcg(paths, asked)
        figures[f"{label}: all evidence on paths"] = _ndcg(served, asked)
    pays = figures["CORP on: all evidence on paths"] > figures["CORP off: all evidence on paths"] + config.corp_margin
    chosen = _with_search(ranker, on if pays else off)
    validation = ranker.choices.validation | figures
    choices = chosen.choices.model_copy(update={"validation": validation})
    return replace(ranker, choices=choices)


def with_faithfulness(ranker: TokenRanker, asked: Questions, seed: int) -> TokenRanker:
    """Return the ranker with a note of how far first items fall without the facets of their paths."""
    paths = ranker.recommenders(trace=True)[1]
    slates = paths.recommend(requests_for(asked.histories, n=1))
    found = facet_ablation(ranker.mixture, asked.histories, slates, rng_for(seed, "faithfulness"))
    notes = {"fall without the path's facets": found.path, "fall without random facets": found.random}
    validation = ranker.choices.validation | notes
    return replace(ranker, choices=ranker.choices.model_copy(update={"validation": validation}))


def _with_search(ranker: TokenRanker, search: BeliefSearchConfig) -> TokenRanker:
    return replace(ranker, choices=ranker.choices.model_copy(update={"search": search}))


def _ndcg(recommender: TokenRecommender, asked: Questions) -> float:
    evaluated = evaluate_recommender(recommender, asked, num_items=recommender.index.num_items, keep_seen=False, seed=0)
    return evaluated.row.accuracy["ndcg@10"].value
