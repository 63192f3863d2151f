"""Bench tokens: the best ten items by sums of code logits, exactly and by paths, beside an item head's product.

Codes and logits are random; logits spread as those of a token model trained on Amazon-2014 Beauty, whose 32 codebooks
range over about two.

Axes: M codebook, K code, N item, D width, R repeat.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.benches.measure import Line, beside, timed
from recsys.codes.token_sums import token_sums, top_by_bounds, top_items
from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.seeds import rng_for
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.item_probabilities import item_probabilities
from recsys.runtime.path_search import compiled_searcher

CATALOGUES = (12_000, 100_000, 1_000_000)
CODEBOOKS, CODES, WIDTH, SPREAD = 32, 256, 128, 0.4
REPEATS, N, NUM_PATHS = 9, 10, 64


def bench_tokens(catalogues: tuple[int, ...] = CATALOGUES) -> list[Line]:
    """Time one user's top ten on one thread: all sums, sums pruned by upper bounds, searched paths, the dense product.

    Paths include the sums and the probabilities that they are searched by.
    """
    torch.set_num_threads(1)
    lines = []
    for items in catalogues:
        rng = rng_for(0, "bench", "tokens", items)
        codes_NM = rng.integers(0, CODES, (items, CODEBOOKS))
        codes_MN = np.ascontiguousarray(codes_NM.T).astype(np.uint8)
        item_ND = rng.standard_normal((items, WIDTH), dtype=np.float32)
        paths = PathsOfSums(codes_NM, codes_MN)
        paths.best(np.zeros((CODEBOOKS, CODES), np.float32))  # compiles
        sums_R, pruned_R, paths_R, product_R = [], [], [], []
        pruned_share_R, paths_share_R = [], []
        for _ in range(REPEATS):
            logits_MK = (SPREAD * rng.standard_normal((CODEBOOKS, CODES))).astype(np.float32)
            query_D = rng.standard_normal(WIDTH, dtype=np.float32)
            sums_R.append(timed(lambda: top_items(token_sums(codes_MN, logits_MK), N)) * 1000)  # noqa: B023
            pruned_R.append(timed(lambda: top_by_bounds(codes_MN, logits_MK, N)) * 1000)  # noqa: B023
            paths_R.append(timed(lambda: paths.best(logits_MK)) * 1000)  # noqa: B023
            product_R.append(timed(lambda: top_items(item_ND @ query_D, N)) * 1000)  # noqa: B023
            best_S = top_items(token_sums(codes_MN, logits_MK), N)
            pruned_share_R.append(np.isin(best_S, top_by_bounds(codes_MN, logits_MK, N)[0]).mean())
            paths_share_R.append(np.isin(best_S, paths.best(logits_MK)).mean())
        lines += [
            beside(f"sums over {items:,} items", sums_R, product_R, peer_name=f"product of {WIDTH}", unit="ms"),
            beside(f"pruned sums, {items:,} items", pruned_R, sums_R, peer_name="all sums", unit="ms"),
            _share(f"pruned sums, {items:,} items", pruned_share_R),
            beside(
                f"{NUM_PATHS} paths, {items:,} items", paths_R, product_R, peer_name=f"product of {WIDTH}", unit="ms"
            ),
            _share(f"{NUM_PATHS} paths, {items:,} items", paths_share_R),
        ]
    return lines


class PathsOfSums:
    """The compiled search of paths over the softmax of items' sums of code logits."""

    def __init__(self, codes_NM: IntArray, codes_MN: NDArray[np.uint8]) -> None:
        self._codes_MN, self._index = codes_MN, ValidityIndex(codes_NM, CODES)
        self._searcher, self._config = compiled_searcher(self._index), MarginalSearchConfig(num_paths=NUM_PATHS)

    def best(self, logits_MK: FloatArray) -> IntArray:
        """Return the items of the highest sums among those that paths reach, best first, at most ten."""
        sum_N = token_sums(self._codes_MN, logits_MK)
        search = self._searcher(self._index, item_probabilities(sum_N[None], None), self._config)
        reached_X = np.unique(search.run(np.zeros(1, np.int64), None).candidates.items_C)
        return reached_X[top_items(sum_N[reached_X], N)]


def _share(what: str, share_R: list[float]) -> Line:
    return Line(what=f"{what}: share of the best ten", ours=float(np.mean(share_R)), unit="share")
