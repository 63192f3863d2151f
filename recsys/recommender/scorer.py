"""The generator as the step scorer that decoding asks.

Axes: B batch, P path, M codebook, K code, N item, Q category, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recsys.contracts import History, StepScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.model.generator import Generator


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the scorer keeps between steps: one encoded state per history, and the histories' items."""

    state_BD: Tensor
    items: tuple[IntArray, ...]


class GeneratorScorer:
    """Scores steps and items with a frozen generator; item vectors are computed once."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator.eval()
        with torch.inference_mode():
            self.vectors_ND = generator.item_vectors()
            self.unit_ND = generator.unit_items(self.vectors_ND)
        self.prior = generator.prior()

    def encode(self, histories: Sequence[History]) -> Context:
        """Encode histories, one row each."""
        with torch.inference_mode():
            state_BD = self.generator.encode(histories, vectors_ND=self.vectors_ND)
            return Context(state_BD=state_BD, items=tuple(history.items for history in histories))

    def score_steps(self, context: Context, row_P: IntArray, codes_PM: IntArray) -> StepScores:
        """Score the next step of partial paths."""
        with torch.inference_mode():
            device = self.generator.device
            state_PD = context.state_BD[torch.from_numpy(row_P).to(device)]
            logits, category = self.generator.step(state_PD, torch.from_numpy(codes_PM).to(device))
            return StepScores(
                logits_PMK=logits.float().cpu().numpy(),
                category_PQ=category.softmax(-1).float().cpu().numpy(),
            )

    def score_items(self, context: Context) -> FloatArray:
        """Return the item head's log-probabilities, shape (batch, items)."""
        with torch.inference_mode():
            logits_BN = self.generator.item_logits(context.state_BD, context.items, self.unit_ND, self.prior)
            return functional.log_softmax(logits_BN, dim=-1).cpu().numpy().astype(np.float32)
