"""Cross-fitted item vectors: for each fold of users, vectors made without them, beside these users' pairs.

A loss on a user's pairs overfits where the item vectors were made from the same pairs (COSETTE cross-fits for this
reason); with vectors made without them what is learned holds for new users.

Axes: N item, F feature, U user.
"""

from collections.abc import Iterator

import numpy as np

from recsys.core.arrays import FloatArray
from recsys.core.seeds import derive_seed, rng_for
from recsys.data.events import EventLog
from recsys.data.pairs import HeldOutPairs, following_pairs
from recsys.features.assemble import FeatureBuilder
from recsys.features.behavioural import behavioural_vectors
from recsys.features.impute import BEHAVIOURAL


def cross_fitted_pairs(
    builder: FeatureBuilder, log: EventLog, *, folds: int, distance: int, seed: int
) -> Iterator[HeldOutPairs]:
    """Yield each fold's pairs with the item vectors of the other folds, in the space of the builder's own vectors.

    Args:
        builder: fitted on this log's items.
        log: the training log.
        folds: number of folds of users, at least two.
        distance: how many events apart a pair may be.
        seed: of the draw of folds.
    """
    fold_U = rng_for(seed, "pairs", "folds").integers(0, folds, log.num_users)
    for fold in range(folds):
        rest = log.first(np.where(fold_U == fold, 0, log.lengths_U))
        inside = log.first(np.where(fold_U == fold, log.lengths_U, 0))
        left_P, right_P = following_pairs(inside, distance)
        vectors_NF = _vectors_without(builder, rest, derive_seed(seed, "pairs", "vectors", fold))
        yield HeldOutPairs(vectors_NF=vectors_NF, left_P=left_P, right_P=right_P)


def _vectors_without(builder: FeatureBuilder, rest: EventLog, seed: int) -> FloatArray:
    blocks = dict(builder.features.blocks)
    if BEHAVIOURAL in blocks:
        own_NF = behavioural_vectors(rest, builder.config.behavioural, seed)
        blocks[BEHAVIOURAL] = turned_like(own_NF, blocks[BEHAVIOURAL])
    return np.asarray(builder.vectors_of(blocks), np.float32)


def turned_like(vectors_NF: FloatArray, wanted_NF: FloatArray) -> FloatArray:
    """Return vectors turned by the rotation or reflection that brings them nearest to others (Procrustes).

    Two factorisations of similar matrices differ by such a rotation; what else they differ in stays.

    Shape:
        vectors_NF, wanted_NF: (items, features); rows of zeros are not compared and stay zeros.
    """
    both_N = vectors_NF.any(axis=1) & wanted_NF.any(axis=1)
    left_FF, _, right_FF = np.linalg.svd(vectors_NF[both_N].T @ wanted_NF[both_N])
    return np.asarray(vectors_NF @ (left_FF @ right_FF), np.float32)
