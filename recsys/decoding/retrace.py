"""Paths to items that no searched path reached: the item's own codes, in the order of the model's confidence.

Axes: X item to find a path to, L item whose path is not finished, M codebook, K code, Q category.
"""

from collections.abc import Callable

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import Path
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.decoding.paths import Beam, Expansions, root_beam


def retrace(
    score: Callable[[Beam], FloatArray],
    index: ValidityIndex,
    wanted: tuple[IntArray, IntArray],
    *,
    finish_below: int,
    min_steps: int,
) -> list[Path]:
    """Return one path to each item: at every step the most probable of its own codes that are left.

    Paths stop where searched ones do: at one item, or after ``min_steps`` at ``finish_below`` items.

    Args:
        score: gives the logits of the next step of paths, (paths, codebooks, codes).
        index: the catalogue's.
        wanted: rows of the batch and an item for each.
        finish_below: see :class:`recsys.decoding.config.SearchConfig`.
        min_steps: likewise.

    Shape:
        wanted: two of (items,).
    """
    row_X, item_X = wanted
    codes_LM, place_L = index.codes_MN[:, item_X].T, np.arange(len(row_X))
    live = root_beam(row_X, index.start(len(row_X)), num_codebooks=index.num_codebooks)
    paths: dict[int, Path] = {}
    for step in range(index.num_codebooks):
        if not len(live):
            break
        log_prob_LM = _own_log_probs(score(live), index.allowed(live.candidates), live, codes_LM)
        codebook_L = log_prob_LM.argmax(axis=1)
        every_L = np.arange(len(live))
        step_L = log_prob_LM[every_L, codebook_L].astype(np.float64)
        live = live.grow(
            Expansions(
                parent_X=every_L,
                codebook_X=codebook_L,
                code_X=codes_LM[every_L, codebook_L],
                step_log_prob_X=step_L,
                log_prob_X=live.log_prob_P + step_L,
            ),
            index,
            step=step,
        )
        left_L = live.candidates.sizes_P
        done_L = (
            (left_L == 1) | ((left_L <= finish_below) & (step + 1 >= min_steps)) | (step + 1 == len(index.codes_MN))
        )
        paths |= {int(place_L[at]): live.path(at) for at in np.flatnonzero(done_L).tolist()}
        on_L = np.flatnonzero(~done_L)
        live, codes_LM, place_L = live.take(on_L), codes_LM[on_L], place_L[on_L]
    return [paths[at] for at in range(len(row_X))]


def _own_log_probs(logits_LMK: FloatArray, allowed_LMK: BoolArray, live: Beam, codes_LM: IntArray) -> FloatArray:
    """Return the log-probability of the item's own code in each codebook, minus infinity in those that do not count.

    Used codebooks do not count, nor do those with a single code left while another leaves a choice.
    """
    masked_LMK = np.where(allowed_LMK, logits_LMK, np.float32(-np.inf))
    best_LM = masked_LMK.max(axis=-1)
    total_LM = best_LM + np.log(np.exp(masked_LMK - best_LM[..., None]).sum(axis=-1))
    own_LM = np.take_along_axis(masked_LMK, codes_LM[..., None], axis=-1)[..., 0] - total_LM
    free_LM = live.codes_PM < 0
    decides_LM = free_LM & (np.count_nonzero(allowed_LMK, axis=-1) > 1)
    counted_LM = np.where(decides_LM.any(axis=1, keepdims=True), decides_LM, free_LM)
    return np.where(counted_LM, own_LM, np.float32(-np.inf))
