"""The any-order token decoder: scores of the next step of partial paths.

Axes: P path, M codebook, D width, V hidden width, X code vectors side by side, Q category.
"""

import numpy as np

from recsys.contracts import StepScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.runtime.functions import gelu
from recsys.runtime.weights import TokenDecoderWeights

_EPSILON = np.float32(1e-5)
"""Added to variances by layer norms, as torch does by default."""


def score_steps(weights: TokenDecoderWeights, state_PD: FloatArray, codes_PM: IntArray) -> StepScores:
    """Return the token decoder's logits and category probabilities.

    Shape:
        state_PD: (paths, width). codes_PM: (paths, codebooks), -1 where a codebook is free.
    """
    paths, books = codes_PM.shape
    used_PM = (codes_PM >= 0).astype(np.float32)
    token_PM = np.maximum(codes_PM, 0) + np.arange(books) * (len(weights.code_KW) // books)
    chosen_PX = (weights.code_KW[token_PM] * used_PM[..., None]).reshape(paths, -1)
    hidden_PV = state_PD @ weights.state_DV + weights.state_bias_V
    hidden_PV += chosen_PX @ weights.codes_XV
    hidden_PV += used_PM @ weights.used_MV
    gelu(hidden_PV)
    mixed_PD = state_PD + (hidden_PV @ weights.hidden_VD + weights.hidden_bias_D)
    mixed_PD -= mixed_PD.mean(axis=1, keepdims=True)
    mixed_PD /= np.sqrt((mixed_PD**2).mean(axis=1, keepdims=True) + _EPSILON)
    mixed_PD = mixed_PD * weights.scale_D + weights.shift_D
    logits_PK = mixed_PD @ weights.token_DK + weights.token_bias_K
    category_PQ = mixed_PD @ weights.category_DQ + weights.category_bias_Q
    category_PQ = np.exp(category_PQ - category_PQ.max(axis=1, keepdims=True))
    return StepScores(
        logits_PMK=np.asarray(logits_PK.reshape(paths, books, -1), np.float32),
        category_PQ=category_PQ / category_PQ.sum(axis=1, keepdims=True),
    )
