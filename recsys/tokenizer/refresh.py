"""Codebooks fitted anew on today's items, numbered so that a model trained on the old codes can go on.

Experts, gate and decoder stay. Each codebook's codewords are fitted again by k-means on the latents of all items of
today. Its new codewords are then matched to the old ones one to one, at the least sum of squared distances (bipartite
assignment codebook by codebook, arXiv 2604.13273): code k goes on meaning about what it meant, so the embeddings that a
model learned for it are where training goes on from.

Axes: N item, M codebook, K code, D latent width of one expert.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.errors import ConfigError
from recsys.core.seeds import derive_seed
from recsys.tokenizer.base import ItemTokenizer
from recsys.tokenizer.mpq import MPQTokenizer
from recsys.tokenizer.start import kmeans_codewords
from recsys.tokenizer.stream import blocks, sample, slices


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """A tokenizer with codebooks of today, and what that changed of its codes before collisions are resolved.

    Shape:
        kept_M: (codebooks,) share of items whose code is as it was.
        unmatched_M: (codebooks,) the same if the new codewords were numbered as k-means gave them.
    """

    tokenizer: ItemTokenizer
    kept_M: tuple[float, ...]
    unmatched_M: tuple[float, ...]


def refresh(tokenizer: ItemTokenizer, vectors_NF: FloatArray, *, seed: int) -> Refreshed:
    """Fit a tokenizer's codebooks on today's items and number their codes by the old ones.

    Shape:
        vectors_NF: (items, features), old and new items.

    Raises:
        ConfigError: the tokenizer has no parallel codebooks.
    """
    if not isinstance(tokenizer, MPQTokenizer):
        raise ConfigError(
            "codebooks can be refreshed where they are parallel, in a tokenizer of kind 'mpq', "
            f"got {tokenizer.kind!r}; leave --refresh-codebooks out, or train in full"
        )
    points_NF = sample(vectors_NF, tokenizer.config.sample_size, seed)
    with torch.no_grad():
        latents_NMD = torch.cat(
            [tokenizer.latents(tokenizer.standardise(block)) for block in blocks(slices(points_NF), points_NF.shape[1])]
        ).numpy()
    old_MKD = tokenizer.codewords_MKD()
    raw, named = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    for book, old_KD in enumerate(old_MKD):
        new_KD = kmeans_codewords(latents_NMD[:, book], len(old_KD), derive_seed(seed, "refresh", book))
        with torch.no_grad():
            raw.codebooks_MKD[book] = torch.from_numpy(new_KD)
            named.codebooks_MKD[book] = torch.from_numpy(new_KD[matched(old_KD, new_KD)])
    codes_NM, raw_NM, named_NM = (one.encode(vectors_NF, resolve=False) for one in (tokenizer, raw, named))
    return Refreshed(
        tokenizer=named,
        kept_M=tuple((named_NM == codes_NM).mean(axis=0).tolist()),
        unmatched_M=tuple((raw_NM == codes_NM).mean(axis=0).tolist()),
    )


def matched(old_KD: FloatArray, new_KD: FloatArray) -> IntArray:
    """Return for each old codeword the number of the new one that takes its place, one to one.

    The sum of squared distances over all pairs is the least possible.
    """
    _, order_K = linear_sum_assignment(cdist(old_KD, new_KD, "sqeuclidean"))
    return np.asarray(order_K, np.int64)
