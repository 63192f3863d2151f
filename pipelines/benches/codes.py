"""Bench codes: which tokenizer's codes rank, under one briefly trained token model, on a run's data and features.

Axes: S seed, U user, N item, M codebook, K code of a codebook.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.benches.measure import Line
from recsys.codes.layout import CodeLayout
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.ranking import ndcg_at
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG, track
from recsys.data.pairs import HeldOutPairs
from recsys.data.prepare import Prepared, load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.evaluation.beyond import RARE_EVENTS
from recsys.evaluation.intervals import paired_difference
from recsys.evaluation.metrics import recall_at
from recsys.features.assemble import FeatureBuilder
from recsys.features.cross_fit import cross_fitted_pairs
from recsys.model.tokens.config import TokenFitConfig, TokenModelConfig
from recsys.model.tokens.fit import fit_token_model
from recsys.model.tokens.mixture import token_log_probs
from recsys.sequence.validation import DEPTH, ranks_of
from recsys.tokenizer.collaborative import CollaborativeConfig
from recsys.tokenizer.facets import coverage, facets
from recsys.tokenizer.kinds import TokenizerConfig, fit_tokenizer
from recsys.tokenizer.quality import relative_error

USERS = 10_000
SEEDS = (7, 8, 9)
"""Of tokenizer and token model; users are drawn by the first."""
TERM = CollaborativeConfig(weight=1.0)
PEER = "OPQ 32"
VARIANTS: Mapping[str, TokenizerConfig] = {
    PEER: TokenizerConfig(kind="opq", num_codebooks=32),
    "PQ 32": TokenizerConfig(kind="opq", num_codebooks=32).model_copy(
        update={"opq": TokenizerConfig().opq.model_copy(update={"rotation_steps": 0})}
    ),
    "residual k-means 32": TokenizerConfig(kind="residual", num_codebooks=32),
    "MPQ 32": TokenizerConfig(num_codebooks=32, width=8),
    **{
        f"MPQ {books} collaborative": TokenizerConfig(num_codebooks=books, width=256 // books, collaborative=TERM)
        for books in (8, 16, 32)
    },
}
"""What is compared: every kind of 32 codebooks, and MPQ of 8, 16 and 32, whose experts share out 256 dimensions.

PQ is OPQ without its rotation: principal axes dealt out so that codebooks have like variances.
"""
MODEL = TokenModelConfig(width=64)
FIT = TokenFitConfig(epochs=3, learning_rate=4e-3, validate_every=3, patience=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """What one tokenizer's codes are worth with one seed.

    Shape:
        rank_U: (validation users,) the rank of the next item, seen items removed.
        rare_U: (validation users,) whether the next item has at most :data:`RARE_EVENTS` training events.
    """

    rank_U: IntArray
    rare_U: BoolArray
    error: float
    perplexity: float
    """Mean perplexity of a codebook over its number of codes: 1 where all codes are used alike."""
    words: float
    """Share of codes whose words fit at least half of their items."""


def bench_codes(
    run: Path,
    *,
    variants: Mapping[str, TokenizerConfig] = VARIANTS,
    model: TokenModelConfig = MODEL,
    seeds: Sequence[int] = SEEDS,
) -> list[Line]:
    """Fit each tokenizer and a token model on its codes, with several seeds, and compare them with OPQ's."""
    torch.set_num_threads(1)
    prepared, builder = load_prepared(run / "data"), FeatureBuilder.load(run / "features")
    queries = questions(prepared.log, "validation").sample(USERS, seed=seeds[0])
    found: dict[str, list[Compared]] = {name: [] for name in variants}
    tried = [(seed, name) for seed in seeds for name in variants]
    pairs_of = {
        seed: list(cross_fitted_pairs(builder, training_log(prepared.log), folds=2, distance=1, seed=seed))
        for seed in seeds
    }
    for seed, name in track(tried, what="tokenizers", total=len(tried)):
        one = compared(prepared, builder, variants[name], queries, pairs=pairs_of[seed], model=model, seed=seed)
        found[name].append(one)
        LOG.info("bench codes: %s, seed %d: ndcg@10 %.4f", name, seed, ndcg_at(one.rank_U, DEPTH).mean())
    return [line for name in variants for line in _lines(name, found[name], found.get(PEER))]


def compared(  # noqa: PLR0913 (data, features, tokenizer, users)
    prepared: Prepared,
    builder: FeatureBuilder,
    config: TokenizerConfig,
    queries: Questions,
    *,
    pairs: list[HeldOutPairs],
    model: TokenModelConfig,
    seed: int,
) -> Compared:
    """Return what one tokenizer's codes are worth with one seed."""
    vectors_NF, training = builder.features.vectors_NF, training_log(prepared.log)
    tokenizer = fit_tokenizer(vectors_NF, config, seed=derive_seed(seed, "codes"), pairs=pairs)
    codes_NM = tokenizer.encode(vectors_NF)
    layout = CodeLayout(num_codebooks=codes_NM.shape[1], codebook_size=config.codebook_size)
    trained = fit_token_model(training, codes_NM, layout, model, FIT, seed=seed, device=torch.device("cpu"))
    words = coverage(
        codes_NM, prepared.items, facets(codes_NM, prepared.items, config.codebook_size), config.codebook_size
    )
    return Compared(
        rank_U=ranks_of(token_log_probs(trained), queries.histories, queries.targets_U),
        rare_U=training.counts_N[queries.targets_U] <= RARE_EVENTS,
        error=relative_error(vectors_NF, tokenizer.reconstruct(vectors_NF, codes_NM)),
        perplexity=float(np.mean([perplexity(code_N) for code_N in codes_NM.T])) / config.codebook_size,
        words=words.at_least_half,
    )


def perplexity(code_N: IntArray) -> float:
    """Return e to the entropy of one codebook's codes."""
    share_K = np.bincount(code_N) / len(code_N)
    used_K = share_K[share_K > 0]
    return float(np.exp(-(used_K * np.log(used_K)).sum()))


def _lines(name: str, seeds: Sequence[Compared], peer: Sequence[Compared] | None) -> list[Line]:
    """Return one tokenizer's figures, means over seeds; intervals are over users."""
    ndcg_SU = np.stack([ndcg_at(one.rank_U, DEPTH) for one in seeds])
    hit_SU = np.stack([recall_at(one.rank_U, DEPTH) for one in seeds])
    rare_U = seeds[0].rare_U
    figures = {
        "N@10": float(ndcg_SU.mean()),
        "deviation over seeds": float(ndcg_SU.mean(axis=1).std(ddof=1)) if len(seeds) > 1 else float("nan"),
        "R@10": float(hit_SU.mean()),
        f"R@10, at most {RARE_EVENTS} events": float(hit_SU[:, rare_U].mean()) if rare_U.any() else float("nan"),
        "reconstruction error": float(np.mean([one.error for one in seeds])),
        "perplexity over codes": float(np.mean([one.perplexity for one in seeds])),
        "codes with words": float(np.mean([one.words for one in seeds])),
    }
    if peer is not None and name != PEER:
        theirs_U = np.mean([ndcg_at(one.rank_U, DEPTH) for one in peer], axis=0)
        difference = paired_difference(ndcg_SU.mean(axis=0), theirs_U, rng_for(SEEDS[0], "bench", "codes", name))
        figures |= dict(zip((f"beside {PEER}, N@10", "from", "to"), difference, strict=True))
    return [Line(what=name, figure=figure, ours=value, unit="") for figure, value in figures.items()]
