"""Bench tokens: the exact best ten items by sums of code logits, beside an item head's product over all items.

Codes and logits are random; logits spread as those of a token model trained on Amazon-2014 Beauty, whose 32 codebooks
range over about two.

Axes: M codebook, K code, N item, D width, R repeat.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.benches.measure import Line, beside, timed
from recsys.codes.token_sums import token_sums, top_by_bounds, top_items
from recsys.core.arrays import FloatArray
from recsys.core.seeds import rng_for

CATALOGUES = (12_000, 100_000, 1_000_000)
CODEBOOKS, CODES, WIDTH, SPREAD = 32, 256, 128, 0.4
REPEATS, N = 9, 10


def bench_tokens(catalogues: tuple[int, ...] = CATALOGUES) -> list[Line]:
    """Time one user's exact top ten on one thread: all sums, sums pruned by upper bounds, and the dense product."""
    torch.set_num_threads(1)
    lines = []
    for items in catalogues:
        rng = rng_for(0, "bench", "tokens", items)
        codes_MN = rng.integers(0, CODES, (CODEBOOKS, items)).astype(np.uint8)
        item_ND = rng.standard_normal((items, WIDTH), dtype=np.float32)
        sums_R, pruned_R, product_R, same_R = [], [], [], []
        for _ in range(REPEATS):
            logits_MK = (SPREAD * rng.standard_normal((CODEBOOKS, CODES))).astype(np.float32)
            query_D = rng.standard_normal(WIDTH, dtype=np.float32)
            sums_R.append(timed(lambda: top_items(token_sums(codes_MN, logits_MK), N)) * 1000)  # noqa: B023
            pruned_R.append(timed(lambda: top_by_bounds(codes_MN, logits_MK, N)) * 1000)  # noqa: B023
            product_R.append(timed(lambda: top_items(item_ND @ query_D, N)) * 1000)  # noqa: B023
            same_R.append(_shared(codes_MN, logits_MK))
        lines += [
            beside(f"sums over {items:,} items", sums_R, product_R, peer_name=f"product of {WIDTH}", unit="ms"),
            beside(f"pruned sums, {items:,} items", pruned_R, sums_R, peer_name="all sums", unit="ms"),
            Line(
                what=f"pruned sums, {items:,} items: share of the best ten", ours=float(np.mean(same_R)), unit="share"
            ),
        ]
    return lines


def _shared(codes_MN: NDArray[np.uint8], logits_MK: FloatArray) -> float:
    """Return the share of the best items by all sums that the pruned sums find."""
    best_S = top_items(token_sums(codes_MN, logits_MK), N)
    return float(np.isin(best_S, top_by_bounds(codes_MN, logits_MK, N)[0]).mean())
