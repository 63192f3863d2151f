"""Bench gpu: training, decoding and encoding on a CUDA device, each beside the same work on the CPU.

The model trains on a data set's log with random codes; the GPU trains whole epochs and is held to the CPU's first
steps, which start from the same weights. It is one prepared run of at most :data:`Sizes.seconds`: work that would begin
later is left out, with a note.

Axes: N item, F feature.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from pipelines.benches.decode import random_histories, random_recommender
from pipelines.benches.measure import Line
from pipelines.benches.training_world import TrainingWorld
from recsys.contracts import requests_for
from recsys.core.arrays import FloatArray
from recsys.core.errors import DeviceError
from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG
from recsys.data.prepare import PrepareConfig, prepare
from recsys.data.splits import questions, training_log
from recsys.data.table import read_dataset
from recsys.model.calibrate import item_head_ndcg
from recsys.model.fit import Pretrainer
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer

DEMO_DATA = Path("runs/demo/ml-100k")
"""What is trained on where no data set is given and the demo has fetched its own; else a made-up log."""
USERS, ITEMS, ASKED = 6000, 6000, 2000
"""Size of the made-up log, and most users that are ranked for."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is done: steps and epochs of training, items and users of decoding, items of encoding."""

    steps: int = 30
    epochs: int = 4
    items: int = 100_000
    users: int = 512
    single_users: int = 20
    encoded: int = 1_000_000
    features: int = 512
    block: int = 50_000
    seconds: float = 420.0
    """After so many seconds nothing new begins."""


def bench_gpu(data: Path | None, sizes: Sizes | None = None, *, device: torch.device | None = None) -> list[Line]:
    """Return what a CUDA device takes beside the CPU; ``data`` is a data set, without one the log is made up.

    Raises:
        DeviceError: there is no CUDA device.
    """
    if device is None and not torch.cuda.is_available():
        raise DeviceError(
            f"bench gpu must have a CUDA device, got none (torch {torch.__version__}); run it on a machine with one, "
            "with a torch built for CUDA: make install EXTRAS=cuda"
        )
    device, sizes = device or torch.device("cuda"), sizes or Sizes()
    began = time.perf_counter()
    lines: list[Line] = []
    for name, work in (("training", _training), ("decoding", _decoding), ("encoding", _encoding)):
        if (spent := time.perf_counter() - began) > sizes.seconds:
            LOG.warning("bench gpu: %s is left out, for %.0f s are over", name, spent)
            continue
        lines += work(device, sizes, data)
    return lines


def _training(device: torch.device, sizes: Sizes, data: Path | None) -> list[Line]:
    """Train the same first steps on both, then whole epochs on the device, and rank with what it learned."""
    source = data or (DEMO_DATA if DEMO_DATA.exists() else None)
    world, queries = TrainingWorld.made_up(USERS, ITEMS), None
    if source is not None:
        log = prepare(read_dataset(source), PrepareConfig()).log
        world = TrainingWorld.with_random_codes(training_log(log))
        queries = questions(log, "validation").sample(ASKED, seed=0)
    world = replace(world, fit=world.fit.model_copy(update={"epochs": sizes.epochs}))
    trainer, peer = (world.trainer("fp32", device=place) for place in (device, torch.device("cpu")))
    (speed, loss), (peer_speed, peer_loss) = (_first_steps(one, sizes.steps) for one in (trainer, peer))
    whole = _timed(lambda: [trainer.run_epoch(epoch) for epoch in range(trainer.epochs)])
    where = "a made-up log" if source is None else source.name
    lines = [
        Line(
            what=f"pre-training on {where}, positions a second",
            ours=speed,
            peer=peer_speed,
            peer_name="CPU",
            ratio=speed / peer_speed,
            unit="1/s",
        ),
        Line(what="item loss of the same last step", ours=loss, peer=peer_loss, peer_name="CPU", unit="nats"),
        Line(what=f"pre-training, {trainer.epochs} epochs", ours=whole, unit="s"),
    ]
    if queries is not None:
        ndcg = item_head_ndcg(trainer.generator, queries)
        lines.append(Line(what="item head after them, validation", ours=ndcg, unit="NDCG@10"))
    return lines


def _first_steps(trainer: Pretrainer, steps: int) -> tuple[float, float]:
    """Return positions a second of the first steps, and the item loss of the last one.

    They go without dropout, whose draws differ between devices.
    """
    trainer.generator.eval()
    rng, values = rng_for(0, "bench", "gpu"), [0.0]
    batches = list(islice(trainer.objective.batches(0), steps))

    def work() -> None:
        for batch in batches:
            values[0] = trainer.step(trainer.objective.losses(batch, rng), "bench gpu")["item"]

    seconds = _timed(work)
    return sum(int(batch.lengths_B.sum()) for batch in batches) / seconds, values[0]


def _decoding(device: torch.device, sizes: Sizes, _: Path | None) -> list[Line]:
    """Recommend to many users at once and to one at a time, with paths, from random weights and codes."""
    lines = []
    histories = random_histories(sizes.items, sizes.users)
    ours, peer = (random_recommender(sizes.items, device=one) for one in (device, torch.device("cpu")))
    for recommender in (ours, peer):
        recommender.recommend(requests_for(histories[:1], n=10))
    for what, batch, times in (
        (f"{sizes.users} users at once", histories, 1),
        ("one user", histories[:1], sizes.single_users),
    ):
        requests = requests_for(batch, n=10)
        took = [
            _timed(lambda: [one.recommend(requests) for _ in range(times)]) / times  # noqa: B023
            for one in (ours, peer)
        ]
        lines.append(_less(f"decode, {sizes.items:,} items, {what}", *took))
    return lines


def _encoding(device: torch.device, sizes: Sizes, _: Path | None) -> list[Line]:
    """Encode random vectors, block by block, with one tokenizer on both; the shares of equal codes are compared."""
    rng = rng_for(0, "bench", "gpu", "vectors")
    sample_NF = rng.standard_normal((min(20_000, sizes.encoded), sizes.features), dtype=np.float32)
    config = MPQConfig(num_codebooks=8, codebook_size=min(256, len(sample_NF)), epochs=1)
    tokenizer = MPQTokenizer.fit(sample_NF, config, seed=0)

    def blocks() -> Iterator[FloatArray]:
        for start in range(0, sizes.encoded, sizes.block):
            rows = min(sizes.block, sizes.encoded - start)
            yield rng_for(0, "bench", "gpu", start).standard_normal((rows, sizes.features), dtype=np.float32)

    drawing = _timed(lambda: [None for _ in blocks()])
    codes, took = [], []
    for place in (device, torch.device("cpu")):
        on_device = tokenizer.to(place)
        took.append(_timed(lambda: codes.append(on_device.encode_stream(blocks()))) - drawing)  # noqa: B023
    same = float((codes[0] == codes[1]).mean())
    return [
        _less(f"encode {sizes.encoded:,} items of {sizes.features} floats", *(max(one, 1e-9) for one in took)),
        Line(what="codes equal on both", ours=same, unit="share"),
    ]


def _timed(work: Callable[[], object]) -> float:
    """Return the seconds of a call, with what it left to the device."""
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _less(what: str, ours: float, peer: float) -> Line:
    return Line(what=what, ours=ours, peer=peer, peer_name="CPU", ratio=peer / ours, unit="s")
