"""Faithfulness of paths: how far an item's rank falls when the evidence of its path's facets is taken away.

Axes: B request, N item, M codebook, K code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recsys.contracts import History, Slate
from recsys.core.arrays import FloatArray, IntArray
from recsys.model.tokens.mixture import TokenMixture


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How far first items fall without the facets of their path, and without as many other facets of theirs.

    Falls are means of log2(rank after / rank before) in the ranking by tokens alone: 1 is a rank twice as deep.
    """

    path: float
    """The fall without the path's facets."""
    random: float
    """The fall without facets of codebooks drawn from those that the path did not take."""
    items: int
    """How many first items the means are over: those whose path leaves as many codebooks as it took."""


def facet_ablation(
    mixture: TokenMixture, histories: Sequence[History], slates: Sequence[Slate], rng: np.random.Generator
) -> Faithfulness:
    """Take the evidence of facets away from all items that have them, and see how deep each slate's first item falls.

    A facet's evidence is its code's logit above the mean logit of its codebook over the catalogue.
    """
    codes_NM = mixture.codes_NM()
    with torch.inference_mode():
        logits_BMK = mixture.code_logits(histories).float().cpu().numpy()
    falls: list[tuple[float, float]] = []
    for logits_MK, slate in zip(logits_BMK, slates, strict=True):
        if not slate.paths or not slate.paths[0]:
            continue
        item, taken = int(slate.items[0]), [step.codebook for step in slate.paths[0][0].steps]
        others = np.setdiff1d(np.arange(codes_NM.shape[1]), taken)
        if len(others) < len(taken):
            continue
        drawn = rng.choice(others, len(taken), replace=False)
        falls.append((_fall(logits_MK, codes_NM, item, np.array(taken)), _fall(logits_MK, codes_NM, item, drawn)))
    path, random = np.mean(falls, axis=0).tolist() if falls else (0.0, 0.0)
    return Faithfulness(path=path, random=random, items=len(falls))


def _fall(logits_MK: FloatArray, codes_NM: IntArray, item: int, books: IntArray) -> float:
    """Return log2 of an item's rank without its facets of some codebooks over its rank with them."""
    own_NM = np.take_along_axis(logits_MK.T, codes_NM, axis=0)
    scores_N = own_NM.sum(axis=1)
    without_N = scores_N.copy()
    for book in books.tolist():
        has_N = codes_NM[:, book] == codes_NM[item, book]
        without_N[has_N] -= logits_MK[book, codes_NM[item, book]] - own_NM[:, book].mean()
    before, after = (int((values_N >= values_N[item]).sum()) for values_N in (scores_N, without_N))
    return float(np.log2(after / before))
