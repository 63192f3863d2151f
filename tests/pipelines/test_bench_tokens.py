import numpy as np

from pipelines.benches.tokens import CODEBOOKS, CODES, PathsOfSums, bench_tokens
from recsys.codes.token_sums import token_sums


def test_bench_when_catalogues_are_small_then_exact_ways_find_the_same_items_and_paths_most_of_them() -> None:
    lines = bench_tokens((50, 400))
    shares = {line.what: line.ours for line in lines if line.unit == "share"}
    for items in (50, 400):
        assert shares.pop(f"pruned sums, {items} items: share of the best ten") == 1.0
        assert shares.pop(f"64 paths, {items} items: share of the best ten") > 0.5
    assert not shares
    assert all(line.ratio and line.ratio > 0 for line in lines if line.unit == "ms")


def test_paths_of_sums_when_searched_then_items_come_by_their_sums_and_the_best_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    codes_NM = rng.integers(0, CODES, (60, CODEBOOKS))
    codes_MN = np.ascontiguousarray(codes_NM.T).astype(np.uint8)
    logits_MK = rng.standard_normal((CODEBOOKS, CODES)).astype(np.float32)
    best = PathsOfSums(codes_NM, codes_MN).best(logits_MK)
    sum_N = token_sums(codes_MN, logits_MK)
    assert len(best) == 10
    assert best[0] == sum_N.argmax()
    assert (np.diff(sum_N[best]) <= 0).all()
