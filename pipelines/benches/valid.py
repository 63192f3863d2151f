"""Bench valid: a million recommendations and ten thousand masks, each checked against a rule one can read.

Axes: N item, M codebook, K code, P path, B history.
"""

import numpy as np
import torch

from pipelines.benches.decode import random_recommender
from pipelines.benches.measure import Line
from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, Slate, requests_for
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track

ITEMS, CODES = 12_000, 256
HISTORIES, SLATE, BATCH = 100_000, 10, 500
MASKS = 10_000


def bench_valid() -> list[Line]:
    """Recommend 10 items to 100,000 random histories under random eligibility, and compare masks with brute force."""
    torch.set_num_threads(1)
    rng = rng_for(0, "bench", "valid")
    ours = random_recommender(ITEMS)
    recommended = right = 0
    for _ in track(range(HISTORIES // BATCH), what="recommending", total=HISTORIES // BATCH):
        lengths_B = rng.integers(0, 30, BATCH)
        histories = [History(items=rng.integers(0, ITEMS, n), timestamps=np.arange(n) * 3600) for n in lengths_B]
        eligible_N = rng.random(ITEMS) < 0.5
        slates = ours.recommend(requests_for(histories, n=SLATE, eligible_N=eligible_N))
        for slate, history in zip(slates, histories, strict=True):
            recommended += SLATE
            right += _right(slate, history, eligible_N)
    agreed = _masks_agree(ours.catalogue.codes_NM, rng)
    return [
        Line(
            what=f"valid, eligible, unseen and distinct, of {recommended:,} recommendations",
            ours=right / recommended,
            unit="share",
        ),
        Line(what=f"masks equal to brute force, of {MASKS:,} partial paths", ours=agreed / MASKS, unit="share"),
    ]


def _right(slate: Slate, history: History, eligible_N: BoolArray) -> int:
    """Count the places of a slate that hold an item that is real, allowed, new to the user and not there yet."""
    seen = set(history.items.tolist())
    count = 0
    for item in slate.items.tolist():
        count += 0 <= item < len(eligible_N) and bool(eligible_N[item]) and item not in seen
        seen.add(item)
    return count


def _masks_agree(codes_NM: IntArray, rng: np.random.Generator) -> int:
    """Walk random items' codes in random orders and compare what may follow with a scan of all items."""
    index = ValidityIndex(codes_NM, CODES)
    items, codebooks = codes_NM.shape
    agreed = 0
    for _ in track(range(MASKS), what="comparing masks", total=MASKS):
        item, depth = int(rng.integers(items)), int(rng.integers(codebooks))
        order = rng.permutation(codebooks)[:depth]
        candidates = index.start(1)
        alive_N = np.ones(items, np.bool_)
        for book in order.tolist():
            code = codes_NM[item, book]
            candidates = index.choose(candidates, np.zeros(1, np.int64), np.array([book]), np.array([code]))
            alive_N &= codes_NM[:, book] == code
        brute_MK = np.zeros((codebooks, CODES), np.bool_)
        for book in range(codebooks):
            brute_MK[book, codes_NM[alive_N, book]] = True
        agreed += bool((index.allowed(candidates)[0] == brute_MK).all())
    return agreed
