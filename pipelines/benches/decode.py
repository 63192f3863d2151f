"""Bench decode: one user's recommendation in this process, by the runtime of serving beside torch's model.

The runtime keeps the states of histories that it encoded, and torch's model keeps none. So the runtime is timed twice
for every history: when the history is new to it, and again at once, when its states are kept.

Axes: N item, M codebook, T event, R timed call, U user.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipelines.benches.measure import Line, beside
from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.contracts import History, Recommender, Request, Slate
from recsys.core.arrays import IntArray
from recsys.core.errors import ArtifactError
from recsys.core.seeds import rng_for
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.decoding.config import DecoderConfig
from recsys.model.config import GeneratorConfig
from recsys.model.generator import Generator
from recsys.recommender.bundle import load_bundle
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.served import KEPT_STATES, ServedBundle, load_served
from recsys.runtime.compiled import use_one_thread
from recsys.runtime.export import export_generator
from recsys.runtime.scorer import RuntimeScorer
from recsys.sequence.id_transformer import IdTransformerConfig

CALLS = {12_000: 1000, 100_000: 300, 1_000_000: 100}
"""Timed calls by size of a random catalogue."""
CALLS_OF_A_RUN = 500
CODEBOOKS, CODES, CATEGORIES, HISTORY, SHARE, WARM_UP = 8, 256, 64, 20, 0.35, 10
PEER = "torch"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Queries:
    """Histories, and the items that came next where they are known, (users,)."""

    histories: Sequence[History]
    targets_U: IntArray | None = None


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One way to ask: the runtime and torch's model for it, and which items are ranked where a request may say."""

    ours: Recommender
    torch_model: Recommender
    whole_catalogue: bool | None = None

    def request(self, history: History) -> Request:
        """Return the request after a history."""
        return Request(history=history, whole_catalogue=self.whole_catalogue)


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """One history ranked one way: seconds of the runtime when it is new and when its states are kept, and of torch."""

    new: float
    kept: float
    torch: float
    ours: Slate
    theirs: Slate


def bench_decode(run: Path | None = None) -> list[Line]:
    """Time one-user calls on one thread: of a run on its validation users, or of random codes and weights by size.

    Calls of the runtime and of torch, with paths and without, take turns on the same history. Of a run with token
    experts all evidence ranks, what paths reach by the run's search and, as a way of its own, the catalogue.

    Raises:
        ArtifactError: the run's bundle is not served by the runtime.
    """
    torch.set_num_threads(1)
    use_one_thread()
    if run is not None:
        served, torch_bundle = load_served(run / "bundle"), load_bundle(run / "bundle", device="cpu")
        if not isinstance(served, ServedBundle):
            raise ArtifactError(f"{run / 'bundle'} must be served by the runtime, got torch; the log says why")
        users = questions(load_prepared(run / "data").log, "validation").sample(WARM_UP + CALLS_OF_A_RUN, seed=0)
        ways = {
            "paths": _Way(ours=served.recommender, torch_model=torch_bundle.recommender),
            "no paths": _Way(ours=served.ranker, torch_model=torch_bundle.ranker),
        }
        if served.tokens is not None:
            ways["no paths, catalogue ranked"] = replace(ways["no paths"], whole_catalogue=True)
        queries = _Queries(histories=users.histories, targets_U=users.targets_U)
        return _timed(f"{len(served.catalogue.codes_NM):,} items", ways, queries, served.forget)
    lines: list[Line] = []
    for size, calls in CALLS.items():
        reference = random_recommender(size)
        scorer = RuntimeScorer(export_generator(reference.scorer.generator), kept_states=KEPT_STATES)
        ours = ReasoningRecommender(scorer, reference.catalogue, reference.config)
        ways = {
            "paths": _Way(ours=ours, torch_model=reference),
            "no paths": _Way(ours=ours.untraced(), torch_model=reference.untraced()),
        }
        queries = _Queries(histories=random_histories(size, WARM_UP + calls))
        lines += _timed(f"{size:,} items", ways, queries, scorer.forget)
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
            members=[IdTransformerConfig().model_dump()],
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


def _timed(what: str, ways: dict[str, _Way], queries: _Queries, forget: Callable[[], None]) -> list[Line]:
    """Time the runtime and torch on the same histories in turns, in every way; then the runtime alone."""
    turns: dict[str, list[_Turn]] = {how: [] for how in ways}
    for place, history in enumerate(queries.histories):
        for how, way in ways.items():
            turn = _turn(way, history, forget)
            if place >= WARM_UP:
                turns[how].append(turn)
    lines = []
    for how, found in turns.items():
        lines += _compared(f"{what}, {how}", found)
        lines += _alone(f"{what}, {how}, the runtime alone", ways[how], queries.histories, forget)
        lines += _agreeing(f"{what}, {how}", found, queries)
    return lines


def _turn(way: _Way, history: History, forget: Callable[[], None]) -> _Turn:
    request = way.request(history)
    forget()
    new, ours = _timed_call(way.ours, request)
    seconds, theirs = _timed_call(way.torch_model, request)
    kept, _ = _timed_call(way.ours, request)
    return _Turn(new=new, kept=kept, torch=seconds, ours=ours, theirs=theirs)


def _compared(what: str, turns: Sequence[_Turn]) -> list[Line]:
    """Return medians and 99th percentiles beside torch's, of new histories and of those whose states are kept."""
    torch_R = 1000 * np.array([turn.torch for turn in turns])
    lines = []
    for state, mine_R in (
        ("history new", 1000 * np.array([turn.new for turn in turns])),
        ("states kept", 1000 * np.array([turn.kept for turn in turns])),
    ):
        median = f"{what}, {state}, median of {len(turns)}"
        lines.append(beside(median, mine_R.tolist(), torch_R.tolist(), peer_name=PEER, unit="ms"))
        low, high = (float(np.percentile(each_R, 99)) for each_R in (mine_R, torch_R))
        lines.append(
            Line(what=f"{what}, {state}, p99", ours=low, peer=high, peer_name=PEER, ratio=high / low, unit="ms")
        )
    return lines


def _alone(what: str, way: _Way, histories: Sequence[History], forget: Callable[[], None]) -> list[Line]:
    """Return what the runtime takes where no other work fills the caches between two calls, as in a server."""
    forget()
    lines = []
    for state in ("history new", "states kept"):
        ms_R = [1000 * _timed_call(way.ours, way.request(history))[0] for history in histories][WARM_UP:]
        lines.append(Line(what=f"{what}, {state}, median", ours=float(np.median(ms_R)), unit="ms"))
        lines.append(Line(what=f"{what}, {state}, p99", ours=float(np.percentile(ms_R, 99)), unit="ms"))
    return lines


def _agreeing(what: str, turns: Sequence[_Turn], queries: _Queries) -> list[Line]:
    """Return how far the slates are torch's, how long paths are, and NDCG@10 where it is known what came next."""
    slates = [(turn.ours, turn.theirs) for turn in turns if len(turn.ours.items)]
    shared = float(np.mean([np.isin(mine.items, theirs.items).mean() for mine, theirs in slates]))
    lines = [Line(what=f"{what}, share of the ten items that are {PEER}'s", ours=shared, unit="share")]
    steps = [len(paths[0].steps) for mine, _ in slates for paths in mine.paths if paths]
    if steps:
        lines.append(Line(what=f"{what}, steps of the best paths", ours=float(np.mean(steps)), unit="steps"))
    if queries.targets_U is not None:
        targets = queries.targets_U[WARM_UP:].tolist()
        ours, theirs = (
            float(np.mean([_gain(slate, target) for slate, target in zip(own, targets, strict=True)]))
            for own in ([turn.ours for turn in turns], [turn.theirs for turn in turns])
        )
        lines.append(Line(what=f"{what}, NDCG@10", ours=ours, peer=theirs, peer_name=PEER, unit="share"))
    return lines


def _timed_call(recommender: Recommender, request: Request) -> tuple[float, Slate]:
    began = time.perf_counter()
    slate = recommender.recommend([request])[0]
    return time.perf_counter() - began, slate


def _gain(slate: Slate, target: int) -> float:
    """Return 1 / log2(rank + 1) of the item that came next, 0 where it is not in the slate."""
    places = np.flatnonzero(slate.items == target)
    return float(1 / np.log2(places[0] + 2)) if len(places) else 0.0
