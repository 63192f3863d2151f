"""Bench decode: one user's recommendation in this process, by the runtime of serving beside torch's model.

Axes: N item, M codebook, T event, R timed call, U user.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.benches.measure import Line, beside
from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.contracts import History, Request, Slate
from recsys.core.arrays import IntArray
from recsys.core.seeds import rng_for
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.decoding.config import DecoderConfig
from recsys.model.config import GeneratorConfig
from recsys.model.generator import Generator
from recsys.recommender.bundle import load_bundle
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.served import load_served
from recsys.runtime.compiled import use_one_thread
from recsys.runtime.export import export_generator
from recsys.runtime.scorer import RuntimeScorer
from recsys.sequence.id_transformer import IdTransformerConfig

CALLS = {12_000: 1000, 100_000: 300, 1_000_000: 100}
"""Timed calls by size of a random catalogue."""
CALLS_OF_A_RUN = 1000
CODEBOOKS, CODES, CATEGORIES, HISTORY, SHARE, WARM_UP = 8, 256, 64, 20, 0.35, 10
PEER = "torch"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """What is asked, and the items that came next where they are known, (users,)."""

    histories: Sequence[History]
    targets_U: IntArray | None = None


def bench_decode(run: Path | None = None) -> list[Line]:
    """Time one-user calls on one thread: of a run on its validation users, or of random codes and weights by size.

    Calls of the runtime and of torch, with paths and without, take turns on the same history.
    """
    torch.set_num_threads(1)
    use_one_thread()
    if run is not None:
        served, torch_bundle = load_served(run / "bundle"), load_bundle(run / "bundle", device="cpu")
        ours, reference = served.generative, torch_bundle.generative
        asked = questions(load_prepared(run / "data").log, "validation").sample(WARM_UP + CALLS_OF_A_RUN, seed=0)
        return _timed(ours, reference, _Asked(histories=asked.histories, targets_U=asked.targets_U))
    lines: list[Line] = []
    for size, calls in CALLS.items():
        reference = random_recommender(size)
        scorer = RuntimeScorer(export_generator(reference.scorer.generator))
        ours = ReasoningRecommender(scorer, reference.catalogue, reference.config)
        lines += _timed(ours, reference, _Asked(histories=random_histories(size, WARM_UP + calls)))
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


def random_histories(size: int, count: int) -> list[History]:
    """Return histories of :data:`HISTORY` random items, one a day."""
    rng = rng_for(0, "bench", "decode", size)
    days_T = np.arange(HISTORY) * 86_400
    return [History(items=rng.integers(0, size, HISTORY), timestamps=days_T) for _ in range(count)]


def _timed(ours: ReasoningRecommender[Any], torch_model: ReasoningRecommender[Any], asked: _Asked) -> list[Line]:
    """Time the runtime and torch on the same histories in turns, each with and without paths."""
    ways = {"paths": (ours, torch_model), "no paths": (ours.untraced(), torch_model.untraced())}
    seconds: dict[str, list[tuple[float, float]]] = {how: [] for how in ways}
    slates: list[tuple[Slate, Slate]] = []
    for place, history in enumerate(asked.histories):
        request = Request(history=history)
        for how, pair in ways.items():
            found = [_timed_call(recommender, request) for recommender in pair]
            if place >= WARM_UP:
                seconds[how].append((found[0][0], found[1][0]))
                slates += [(found[0][1], found[1][1])] if how == "paths" else []
    what = f"{len(ours.catalogue.codes_NM):,} items"
    lines = []
    for how, pairs in seconds.items():
        mine_R, theirs_R = (1000 * np.array(pairs)).T
        median = f"{what}, {how}, median of {len(pairs)}"
        lines.append(beside(median, mine_R.tolist(), theirs_R.tolist(), peer_name=PEER, unit="ms"))
        low, high = (float(np.percentile(each_R, 99)) for each_R in (mine_R, theirs_R))
        lines.append(Line(what=f"{what}, {how}, p99", ours=low, peer=high, peer_name=PEER, ratio=high / low, unit="ms"))
    alone_R = [1000 * _timed_call(ways["no paths"][0], Request(history=history))[0] for history in asked.histories]
    alone = f"{what}, no paths, asked over and over, "
    lines.append(Line(what=alone + "median", ours=float(np.median(alone_R[WARM_UP:])), unit="ms"))
    lines.append(Line(what=alone + "p99", ours=float(np.percentile(alone_R[WARM_UP:], 99)), unit="ms"))
    shared = float(np.mean([np.isin(mine.items, theirs.items).mean() for mine, theirs in slates if len(mine.items)]))
    steps = float(np.mean([len(paths[0].steps) for mine, _ in slates for paths in mine.paths if paths]))
    lines.append(Line(what=f"{what}, share of the ten items that are {PEER}'s", ours=shared, unit="share"))
    lines.append(Line(what=f"{what}, steps of the best paths", ours=steps, unit="steps"))
    if asked.targets_U is not None:
        targets = asked.targets_U[WARM_UP:].tolist()
        mine_ndcg, theirs_ndcg = (
            float(np.mean([_gain(pair[side], target) for pair, target in zip(slates, targets, strict=True)]))
            for side in (0, 1)
        )
        lines.append(Line(what=f"{what}, NDCG@10", ours=mine_ndcg, peer=theirs_ndcg, peer_name=PEER, unit="share"))
    return lines


def _timed_call(recommender: ReasoningRecommender[Any], request: Request) -> tuple[float, Slate]:
    began = time.perf_counter()
    slate = recommender.recommend([request])[0]
    return time.perf_counter() - began, slate


def _gain(slate: Slate, target: int) -> float:
    """Return 1 / log2(rank + 1) of the item that came next, 0 where it is not in the slate."""
    places = np.flatnonzero(slate.items == target)
    return float(1 / np.log2(places[0] + 2)) if len(places) else 0.0
