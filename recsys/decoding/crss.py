"""CRSS: which codebook each path decides next, and how probable its codes are.

Axes: P path, M codebook, K code.
"""

from typing import Literal

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.errors import DecodingError

Order = Literal["crss", "fixed"]
_CHUNK = 256


def confidences(logits_PMK: FloatArray, allowed_PMK: BoolArray) -> FloatArray:
    """Return the best probability of each codebook under a softmax over its allowed codes; NaN where undefined.

    Shape:
        logits_PMK, allowed_PMK: (paths, codebooks, codes).
        result: (paths, codebooks).
    """
    best_PM = np.empty(logits_PMK.shape[:2], np.float32)
    for start in range(0, len(logits_PMK), _CHUNK):
        part = slice(start, start + _CHUNK)
        masked_PMK = np.where(allowed_PMK[part], logits_PMK[part], np.float32(-np.inf))
        with np.errstate(invalid="ignore"):
            masked_PMK -= masked_PMK.max(axis=-1, keepdims=True)
            np.exp(masked_PMK, out=masked_PMK)
            best_PM[part] = 1.0 / masked_PMK.sum(axis=-1)
    return best_PM


def log_softmax(logits_PK: FloatArray, allowed_PK: BoolArray) -> FloatArray:
    """Return log-probabilities over the allowed codes, minus infinity elsewhere.

    Shape:
        logits_PK, allowed_PK, result: (paths, codes).
    """
    masked_PK = np.where(allowed_PK, logits_PK, np.float32(-np.inf))
    best_P1 = masked_PK.max(axis=-1, keepdims=True, initial=-np.inf)
    if not np.isfinite(best_P1).all():
        raise DecodingError(
            "logits must be finite for at least one allowed code and never NaN, got NaN or infinity; "
            "check the scorer (a diverged model?) and that each path has items left"
        )
    masked_PK -= best_P1
    return masked_PK - np.log(np.exp(masked_PK).sum(axis=-1, keepdims=True))


def choose_codebook(
    logits_PMK: FloatArray, allowed_PMK: BoolArray, used_PM: BoolArray, *, order: Order = "crss"
) -> tuple[IntArray, FloatArray]:
    """Return the codebook each path decides next and the log-probabilities of its codes.

    Each codebook has a softmax of its own over its allowed codes; its confidence is its best probability. CRSS takes
    the unused codebook with the highest confidence. A codebook with a single allowed code has confidence 1 but
    decides nothing, and taking it would spend a step on no information: codebooks with more than one allowed code go
    first, the most confident of them wins, and forced codebooks follow only when nothing else is left. Equal
    confidences are broken by the lower codebook. The fixed order takes the first unused codebook.

    Shape:
        logits_PMK, allowed_PMK: (paths, codebooks, codes).
        used_PM: (paths, codebooks).
        result: (paths,) and (paths, codes), minus infinity where a code is not allowed.
    """
    if order == "fixed":
        codebook_P = used_PM.argmin(axis=1)
    else:
        confidence_PM = np.where(used_PM, np.float32(-1.0), confidences(logits_PMK, allowed_PMK))
        if np.isnan(confidence_PM).any():
            raise DecodingError(
                "logits of allowed codes must be numbers, got NaN or infinity; check the scorer (a diverged model?)"
            )
        decides_PM = np.count_nonzero(allowed_PMK, axis=-1) > 1
        codebook_P = (confidence_PM + 2.0 * (decides_PM & ~used_PM)).argmax(axis=1)
    path_P = np.arange(len(codebook_P))
    return codebook_P, log_softmax(logits_PMK[path_P, codebook_P], allowed_PMK[path_P, codebook_P])
