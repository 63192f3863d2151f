"""The generator as the step scorer and item scorer of decoding.

Axes: B request, P path, M codebook, K code, N item, Q category, D width.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from recsys.contracts import History, StepScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.model.generator import Generator
from recsys.model.item_head import item_logits
from recsys.model.states import HistoryStates
from recsys.recommender.batch_cache import BatchCache


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the scorer keeps between steps: one encoded state per history, and the histories' items."""

    states: HistoryStates
    items: tuple[IntArray, ...]


class GeneratorScorer:
    """Scores steps and items with a frozen generator; item vectors are computed once."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator.eval()
        with torch.inference_mode():
            self.vectors_ND = generator.items()
            self.keys_ND = generator.head.keys(self.vectors_ND)
        self.prior = generator.head.prior()
        self._cache: BatchCache[Context] | None = None

    def encode(self, histories: Sequence[History]) -> Context:
        """Encode histories, one row each."""
        return self._encode(histories) if self._cache is None else self._cache(histories)

    def keeping_states(self) -> "GeneratorScorer":
        """Return the same scorer, but one that encodes each batch of histories once and keeps all their states."""
        other = copy.copy(self)
        other._cache = BatchCache(self._encode)
        return other

    def _encode(self, histories: Sequence[History]) -> Context:
        with torch.inference_mode():
            states = self.generator.encode(histories, vectors_ND=self.vectors_ND)
            return Context(states=states, items=tuple(history.items for history in histories))

    def score_steps(self, context: Context, row_P: IntArray, codes_PM: IntArray) -> StepScores:
        """Score the next step of partial paths."""
        with torch.inference_mode():
            device = self.generator.device
            state_PD = context.states.own_BD[torch.from_numpy(row_P).to(device)]
            logits, category = self.generator.step(state_PD, torch.from_numpy(codes_PM).to(device))
            return StepScores(
                logits_PMK=logits.float().cpu().numpy(),
                category_PQ=category.softmax(-1).float().cpu().numpy(),
            )

    def score_items(self, context: Context) -> FloatArray:
        """Return the item head's log-probabilities, shape (batch, items)."""
        head = self.generator.head
        with torch.inference_mode():
            if len(context.items) == 1:
                found = self.prior.scores_of(context.items[0])
                device = self.keys_ND.device
                prior = [
                    (torch.from_numpy(at_X).to(device), torch.from_numpy(score_X).to(device)) for at_X, score_X in found
                ]
                logits_BN = item_logits(head.terms(context.states, self.keys_ND), prior)
            else:
                logits_BN = head.logits(context.states, self.keys_ND, self.prior.scores(context.items))
            logits_BN = head.add_repeat_bias(logits_BN, context.items)
            return functional.log_softmax(logits_BN, dim=-1).cpu().numpy().astype(np.float32)
