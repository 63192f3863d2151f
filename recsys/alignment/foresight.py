"""What the served recommender believes will follow where the training log ends: windows that nobody knows by heart.

Axes: P prompt, H next item, K kernel, N item, X place (a prompt asked about).
"""

import numpy as np
import torch

from recsys.alignment.prompts import PromptTable
from recsys.core.arrays import IntArray
from recsys.model.generator import Generator

BATCH_SIZE = 256


@torch.inference_mode()
def foresee(generator: Generator, prompts: PromptTable, place_X: IntArray, rng: np.random.Generator) -> IntArray:
    """Draw windows of different new items from the item head's belief, companion and memory included.

    The likelier an item, the nearer it tends to stand: a draw without replacement by perturbed logits (Gumbel top-k,
    Kool et al., arXiv 1903.06059).

    Shape:
        place_X: (prompts asked about,) their places in the table.
        result: (prompts asked about, window); what a history holds is never in it.
    """
    window_XH = np.zeros((len(place_X), prompts.targets_PH.shape[1]), np.int64)
    for start in range(0, len(place_X), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        asked_P = place_X[rows]
        states_PD = generator.encode([prompts.histories[place] for place in asked_P.tolist()])
        evidence_KPN = torch.from_numpy(prompts.evidence_of(asked_P)).to(states_PD.device)
        belief_PN = generator.beliefs(states_PD, evidence_KPN).cpu().numpy()
        drawn_PN = np.where(prompts.new_to(asked_P), belief_PN + rng.gumbel(size=belief_PN.shape), -np.inf)
        window_XH[rows] = np.argsort(-drawn_PN, axis=1)[:, : window_XH.shape[1]]
    return window_XH
