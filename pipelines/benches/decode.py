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
from recsys.core.seeds import rng_for
from recsys.decoding.config import DecoderConfig
from recsys.model.config import GeneratorConfig
from recsys.model.generator import Generator
from recsys.recommender.parts import ItemHeadRecommender
from recsys.recommender.reasoning import ReasoningRecommender

SIZES = (12_000, 100_000, 1_000_000)
CODEBOOKS, CODES, CATEGORIES, HISTORY = 8, 256, 64, 20
REPEATS, WARM_UP = 200, 10


def bench_decode() -> list[Line]:
    """Time one-user calls on catalogues of random codes with a generator of the default shape, on one thread."""
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
        GeneratorConfig(num_items=size, num_codebooks=CODEBOOKS, codebook_size=CODES, num_categories=CATEGORIES)
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
    return ReasoningRecommender(generator, catalogue, DecoderConfig(), trace=True)


def _one_size(size: int) -> list[Line]:
    rng = rng_for(0, "bench", "decode", size)
    ours = random_recommender(size)
    peer = ItemHeadRecommender(ours.scorer)
    ours_R, peer_R, steps = [], [], []
    for repeat in range(REPEATS + WARM_UP):
        history = History(items=rng.integers(0, size, HISTORY), timestamps=np.arange(HISTORY) * 86_400)
        began = time.perf_counter()
        slate = ours.recommend([history], n=10)[0]
        middle = time.perf_counter()
        peer.recommend([history], n=10)
        if repeat >= WARM_UP:
            ours_R.append(1000 * (middle - began))
            peer_R.append(1000 * (time.perf_counter() - middle))
            steps += [len(paths[0].steps) for paths in slate.paths if paths]
    what = f"recommend one user, {size:,} items"
    return [
        beside(f"{what}, median of {REPEATS}", ours_R, peer_R, peer_name="item head over all items", unit="ms"),
        Line(what=f"{what}, 99th percentile of {REPEATS}", ours=float(np.percentile(ours_R, 99)), unit="ms"),
        Line(what=f"{what}, mean steps of the best paths", ours=float(np.mean(steps)), unit="steps"),
    ]
