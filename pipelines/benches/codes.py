"""Bench codes: which tokenizer's codes rank, under one briefly trained token model, on a run's data and features.

Axes: U user, N item, M codebook.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.benches.measure import Line
from recsys.codes.layout import CodeLayout
from recsys.core.arrays import IntArray
from recsys.core.ranking import MISS, ndcg_at
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG, track
from recsys.data.pairs import HeldOutPairs
from recsys.data.prepare import Prepared, load_prepared
from recsys.data.splits import Questions, questions, training_log
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

USERS, SEED, RARE = 10_000, 7, 4
TERM = CollaborativeConfig(weight=1.0)
PEER = "OPQ 32"
VARIANTS: Mapping[str, TokenizerConfig] = {
    PEER: TokenizerConfig(kind="opq", num_codebooks=32),
    "PQ 32": TokenizerConfig(kind="opq", num_codebooks=32).model_copy(
        update={"opq": TokenizerConfig().opq.model_copy(update={"rotation_steps": 0})}
    ),
    "residual k-means 32": TokenizerConfig(kind="residual", num_codebooks=32),
    **{
        f"MPQ {books}{name}": TokenizerConfig(num_codebooks=books, width=256 // books, collaborative=term)
        for books in (8, 16, 32)
        for name, term in (("", CollaborativeConfig()), (" collaborative", TERM))
    },
}
"""What is compared: every kind of 32 codebooks, and MPQ of 8, 16 and 32, whose experts share out 256 dimensions.

PQ is OPQ without its rotation: principal axes dealt out so that codebooks have like variances.
"""
MODEL = TokenModelConfig(width=64)
FIT = TokenFitConfig(epochs=3, learning_rate=4e-3, validate_every=3, patience=0)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The figures of one tokenizer's codes; the first three on validation users, seen items removed."""

    ndcg: float
    recall: float
    rare_recall: float
    """Recall@10 of users whose next item has at most :data:`RARE` training events."""
    error: float
    perplexity: float
    """Mean perplexity of a codebook over its number of codes: 1 where all codes are used alike."""
    words: float
    """Share of codes whose words fit at least half of their items."""


def bench_codes(
    run: Path, *, variants: Mapping[str, TokenizerConfig] = VARIANTS, model: TokenModelConfig = MODEL
) -> list[Line]:
    """Fit each tokenizer and a token model on its codes, and compare them with OPQ's."""
    torch.set_num_threads(1)
    prepared, builder = load_prepared(run / "data"), FeatureBuilder.load(run / "features")
    asked = questions(prepared.log, "validation").sample(USERS, seed=SEED)
    pairs = list(cross_fitted_pairs(builder, training_log(prepared.log), folds=2, distance=1, seed=SEED))
    found: dict[str, Compared] = {}
    for name, config in track(variants.items(), what="tokenizers", total=len(variants)):
        found[name] = compared(prepared, builder, config, asked, pairs=pairs, model=model)
        LOG.info("bench codes: %s: %s", name, found[name])
    return [line for name, figures in found.items() for line in _lines(name, figures, found.get(PEER))]


def compared(
    prepared: Prepared,
    builder: FeatureBuilder,
    config: TokenizerConfig,
    asked: Questions,
    *,
    pairs: list[HeldOutPairs],
    model: TokenModelConfig = MODEL,
) -> Compared:
    """Return the figures of one tokenizer's codes."""
    vectors_NF, training = builder.features.vectors_NF, training_log(prepared.log)
    tokenizer = fit_tokenizer(vectors_NF, config, seed=derive_seed(SEED, "codes"), pairs=pairs)
    codes_NM = tokenizer.encode(vectors_NF)
    layout = CodeLayout(num_codebooks=codes_NM.shape[1], codebook_size=config.codebook_size)
    trained = fit_token_model(training, codes_NM, layout, model, FIT, seed=SEED, device=torch.device("cpu"))
    rank_U = ranks_of(token_log_probs(trained), asked.histories, asked.targets_U)
    found_U = (rank_U != MISS) & (rank_U <= DEPTH)
    rare_U = training.counts_N[asked.targets_U] <= RARE
    words = coverage(
        codes_NM, prepared.items, facets(codes_NM, prepared.items, config.codebook_size), config.codebook_size
    )
    return Compared(
        ndcg=float(ndcg_at(rank_U, DEPTH).mean()),
        recall=float(found_U.mean()),
        rare_recall=float(found_U[rare_U].mean()) if rare_U.any() else float("nan"),
        error=relative_error(vectors_NF, tokenizer.reconstruct(vectors_NF, codes_NM)),
        perplexity=float(np.mean([perplexity(code_N) for code_N in codes_NM.T])) / config.codebook_size,
        words=words.at_least_half,
    )


def perplexity(code_N: IntArray) -> float:
    """Return e to the entropy of one codebook's codes."""
    share_K = np.bincount(code_N) / len(code_N)
    used_K = share_K[share_K > 0]
    return float(np.exp(-(used_K * np.log(used_K)).sum()))


def _lines(name: str, figures: Compared, peer: Compared | None) -> list[Line]:
    units = {
        "ndcg": "NDCG@10",
        "recall": "Recall@10",
        "rare_recall": f"Recall@10, items of at most {RARE} events",
        "error": "reconstruction error",
        "perplexity": "perplexity over codes",
        "words": "codes with words",
    }
    return [
        Line(
            what=name,
            ours=getattr(figures, field),
            peer=None if peer is None else getattr(peer, field),
            peer_name=PEER,
            unit=unit,
        )
        for field, unit in units.items()
    ]
