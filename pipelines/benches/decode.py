"""Bench decode: one user's recommendation in this process, by catalogue size, beside scanning the whole catalogue.

Axes: N item, M codebook, T event, R timed call.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipelines.benches.measure import Line, beside
from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.contracts import History, Request
from recsys.core.arrays import IntArray
from recsys.core.seeds import rng_for
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.decoding.config import DecoderConfig
from recsys.decoding.evidence import best_items
from recsys.model.config import GeneratorConfig
from recsys.model.generator import Generator
from recsys.recommender.bundle import load_bundle
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from recsys.sequence.id_transformer import IdTransformerConfig

CALLS = {12_000: 1000, 100_000: 300, 1_000_000: 100}
"""Timed calls by size of a random catalogue."""
CALLS_OF_A_RUN = 1000
CODEBOOKS, CODES, CATEGORIES, HISTORY, SHARE, WARM_UP = 8, 256, 64, 20, 0.35, 10


def bench_decode(run: Path | None = None) -> list[Line]:
    """Time one-user calls on one thread: of a run on its validation users, or of random codes and weights by size.

    Calls with paths, without paths and of the peer take turns on the same history.
    """
    torch.set_num_threads(1)
    if run is not None:
        ours = load_bundle(run / "bundle").recommender
        asked = questions(load_prepared(run / "data").log, "validation").sample(WARM_UP + CALLS_OF_A_RUN, seed=0)
        return _timed(ours, asked.histories)
    lines: list[Line] = []
    for size, calls in CALLS.items():
        lines += _timed(random_recommender(size), random_histories(size, WARM_UP + calls))
    return lines


def random_recommender(size: int, *, device: torch.device | None = None) -> ReasoningRecommender[GeneratorScorer]:
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
            member=IdTransformerConfig().model_dump(),
            member_share=SHARE,
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
    config = DecoderConfig().with_ranking(path_weight=0.0)
    scorer = GeneratorScorer(generator.to(device or torch.device("cpu")))
    return ReasoningRecommender(scorer, catalogue, config, trace=True)


def scan(scorer: GeneratorScorer, history: History) -> IntArray:
    """Return the item head's ten best new items: all that a recommender without tokens would do."""
    scores_N = scorer.score_items(scorer.encode([history]))[0]
    return best_items(scores_N, history.items, None, n=10)


def random_histories(size: int, count: int) -> list[History]:
    """Return histories of :data:`HISTORY` random items, one a day."""
    rng = rng_for(0, "bench", "decode", size)
    days_T = np.arange(HISTORY) * 86_400
    return [History(items=rng.integers(0, size, HISTORY), timestamps=days_T) for _ in range(count)]


def _timed(ours: ReasoningRecommender[GeneratorScorer], histories: Sequence[History]) -> list[Line]:
    untold = ours.untraced()
    told_R, untold_R, peer_R, steps = [], [], [], []
    for place, history in enumerate(histories):
        request = Request(history=history)
        began = time.perf_counter()
        slate = ours.recommend([request])[0]
        told = time.perf_counter()
        untold.recommend([request])
        ranked = time.perf_counter()
        scan(ours.scorer, history)
        if place >= WARM_UP:
            told_R.append(1000 * (told - began))
            untold_R.append(1000 * (ranked - told))
            peer_R.append(1000 * (time.perf_counter() - ranked))
            steps += [len(paths[0].steps) for paths in slate.paths if paths]
    what, peer_name = f"{len(ours.catalogue.codes_NM):,} items", "item head over all items"
    lines = []
    for how, ours_R in (("paths", told_R), ("no paths", untold_R)):
        median = f"{what}, {how}, median of {len(ours_R)}"
        lines.append(beside(median, ours_R, peer_R, peer_name=peer_name, unit="ms"))
        lines.append(Line(what=f"{what}, {how}, p99", ours=float(np.percentile(ours_R, 99)), unit="ms"))
    return [*lines, Line(what=f"{what}, steps of the best paths", ours=float(np.mean(steps)), unit="steps")]
