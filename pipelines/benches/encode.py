"""Bench encode: a million item vectors to codes, streamed from a file, beside faiss's product quantiser.

Axes: N item, F feature.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import torch

from pipelines.benches.measure import Line, beside, timed
from recsys.core.arrays import FloatArray
from recsys.core.seeds import rng_for
from recsys.core.usage import peak_memory_mb
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer

ITEMS, FEATURES, BLOCK = 1_000_000, 512, 50_000
FIT_ITEMS, EPOCHS, REPEATS = 20_000, 2, 3


def bench_encode() -> list[Line]:
    """Encode 1,000,000 items of 512 floats with MPQ (8 codebooks of 256) and with a faiss PQ of the same shape."""
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        vectors_NF = _write_vectors(Path(folder) / "vectors.npy")
        sample_NF = np.array(vectors_NF[:FIT_ITEMS])
        config = MPQConfig(num_codebooks=8, codebook_size=256, width=64, epochs=EPOCHS)
        tokenizer = MPQTokenizer.fit(sample_NF, config, seed=0)
        peer = faiss.ProductQuantizer(FEATURES, 8, 8)
        peer.train(sample_NF)
        ours_R, peer_R = [], []
        before = peak_memory_mb()
        for _ in range(REPEATS):
            ours_R.append(timed(lambda: tokenizer.encode_stream(_blocks(vectors_NF))))
            peer_R.append(timed(lambda: [peer.compute_codes(block_NF) for block_NF in _blocks(vectors_NF)]))
    return [
        beside(f"encode {ITEMS:,} items of {FEATURES} floats", ours_R, peer_R, peer_name="faiss PQ 8x8", unit="s"),
        Line(what="peak memory of the process", ours=float(peak_memory_mb()), unit="MiB"),
        Line(what="peak memory before encoding", ours=float(before), unit="MiB"),
    ]


def _write_vectors(path: Path) -> FloatArray:
    """Write clustered random vectors to a file block by block and return them mapped, not loaded."""
    rng = rng_for(0, "bench", "vectors")
    centres_KF = rng.normal(size=(2000, FEATURES)).astype(np.float32)
    vectors_NF = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(ITEMS, FEATURES))
    for start in range(0, ITEMS, BLOCK):
        noise_BF = rng.standard_normal((BLOCK, FEATURES), dtype=np.float32)
        vectors_NF[start : start + BLOCK] = centres_KF[rng.integers(0, len(centres_KF), BLOCK)] + noise_BF
    vectors_NF.flush()
    return np.load(path, mmap_mode="r")


def _blocks(vectors_NF: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, ITEMS, BLOCK):
        yield np.ascontiguousarray(vectors_NF[start : start + BLOCK])
