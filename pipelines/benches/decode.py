"""Bench decode: one user's recommendation in this process, by catalogue size, beside scanning the whole catalogue.

Axes: N item, M codebook, R repeat.
"""

import time

import numpy as np
import torch

from pipelines.benches.measure import Line, beside
from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.core.seeds import rng_for
from recsys.decoding.config import DecoderConfig
from recsys.decoding.evidence import best_items
from recsys.model.config import GeneratorConfig
from recsys.model.generator import Generator
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from recsys.sequence.id_transformer import IdTransformerConfig

SIZES = (12_000, 100_000, 1_000_000)
CODEBOOKS, CODES, CATEGORIES, HISTORY, SHARE = 8, 256, 64, 20, 0.35
REPEATS, WARM_UP = 200, 10


def bench_decode() -> list[Line]:
    """Time one-user calls on catalogues of random codes with a generator of the default shape, on one thread.

    Medians and percentiles are over :data:`REPEATS` calls; ours, without paths and the peer take turns.
    """
    torch.set_num_threads(1)
    lines: list[Line] = []
    for size in SIZES:
        lines += _one_size(size)
    return lines


def random_recommender(size: int) -> ReasoningRecommender:
    """Return a recommender of the default shape with random weights on a catalogue of random codes."""
    rng = rng_for(0, "bench", "catalogue", size)
    codes_NM = rng.integers(0, CODES, (size, CODEBOOKS))
    torch.manual_seed(0)
    generator = Generator(
        GeneratorConfig(
            num_items=size,
            num_codebooks=CODEBOOKS,
            codebook_size=CODES,
            num_categories=CATEGORIES,
            companion=IdTransformerConfig().model_dump(),
            companion_share=SHARE,
        )
    ).eval()
    generator.codes_NM.copy_(torch.from_numpy(codes_NM))
    catalogue = Catalogue(
        item_ids=list(range(size)),
        codes_NM=codes_NM,
        category_N=rng.integers(0, CATEGORIES, size),
        num_categories=CATEGORIES,
        layout=CodeLayout(num_codebooks=CODEBOOKS, codebook_size=CODES),
        facets={},
    )
    return ReasoningRecommender(generator, catalogue, DecoderConfig(path_weight=0.0), trace=True)


def scan(scorer: GeneratorScorer, history: History) -> IntArray:
    """Return the item head's ten best new items: all that a recommender without tokens would do."""
    scores_N = scorer.score_items(scorer.encode([history]))[0]
    return best_items(scores_N, history.items, None, n=10)


def _one_size(size: int) -> list[Line]:
    rng = rng_for(0, "bench", "decode", size)
    ours = random_recommender(size)
    untold = ours.untraced()
    ours_R, untold_R, peer_R, steps = [], [], [], []
    for repeat in range(REPEATS + WARM_UP):
        history = History(items=rng.integers(0, size, HISTORY), timestamps=np.arange(HISTORY) * 86_400)
        began = time.perf_counter()
        slate = ours.recommend([history], n=10)[0]
        told = time.perf_counter()
        untold.recommend([history], n=10)
        ranked = time.perf_counter()
        scan(ours.scorer, history)
        if repeat >= WARM_UP:
            ours_R.append(1000 * (told - began))
            untold_R.append(1000 * (ranked - told))
            peer_R.append(1000 * (time.perf_counter() - ranked))
            steps += [len(paths[0].steps) for paths in slate.paths if paths]
    what, peer_name = f"{size:,} items", "item head over all items"
    return [
        beside(f"{what}, with paths, median", ours_R, peer_R, peer_name=peer_name, unit="ms"),
        Line(what=f"{what}, with paths, 99th percentile", ours=float(np.percentile(ours_R, 99)), unit="ms"),
        beside(f"{what}, without paths, median", untold_R, peer_R, peer_name=peer_name, unit="ms"),
        Line(what=f"{what}, without paths, 99th percentile", ours=float(np.percentile(untold_R, 99)), unit="ms"),
        Line(what=f"{what}, steps of the best paths", ours=float(np.mean(steps)), unit="steps"),
    ]
