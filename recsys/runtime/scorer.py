"""The runtime as the step scorer and item scorer of decoding.

Equal to the torch model within float32 rounding and, of items' scores, that of :mod:`recsys.runtime.item_matrix`.

Axes: B history, D width, P path, M codebook.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.contracts import History, StepScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.runtime.head import HeadItems, item_log_probs
from recsys.runtime.history_cache import HistoryCache
from recsys.runtime.states import HistoryQueries
from recsys.runtime.steps import score_steps
from recsys.runtime.weights import GeneratorWeights


@dataclass(frozen=True, kw_only=True)
class EncodedHistory:
    """What a history is encoded to.

    Shape:
        own_D: (width,) the history encoder's state; query_D: (key width,) what is multiplied with item keys.
    """

    own_D: FloatArray
    query_D: FloatArray


@dataclass(frozen=True, kw_only=True)
class RuntimeContext:
    """What the scorer keeps between steps: the state and the items of each history."""

    states: tuple[EncodedHistory, ...]
    items: tuple[IntArray, ...]


class RuntimeScorer:
    """Scores steps and items from weights that were exported, one history at a time, on one thread.

    States are kept for the histories that came last, by all that was read of them, so a new event makes a new state.

    Args:
        weights: of :func:`recsys.runtime.export.export_generator`, or loaded.
        kept_states: for how many histories.
    """

    def __init__(self, weights: GeneratorWeights, *, kept_states: int = 0) -> None:
        self._decoder, self._prior, self._max_history = weights.decoder, weights.prior, weights.max_history
        self._table, self._states = HeadItems.of(weights.table), HistoryQueries(weights)
        self._kept: HistoryCache[EncodedHistory] = HistoryCache(kept_states)

    @property
    def num_items(self) -> int:
        """Number of items of the catalogue."""
        return len(self._table.bias_N)

    def encode(self, histories: Sequence[History]) -> RuntimeContext:
        """Encode histories.

        Raises:
            IndexError: an item is not of the catalogue.
        """
        for history in histories:
            if len(history.items) and not 0 <= history.items.min() <= history.items.max() < self.num_items:
                raise IndexError(
                    f"items of a history must be from 0 to {self.num_items - 1}, got {history.items.min()} to "
                    f"{history.items.max()}; give rows of this model's catalogue"
                )
        read = [history.last(self._max_history) for history in histories]
        states = tuple(self._kept.of(history, self._encoded) for history in read)
        return RuntimeContext(states=states, items=tuple(history.items for history in histories))

    def score_items(self, context: RuntimeContext) -> FloatArray:
        """Return the item head's log-probabilities, (histories, items)."""
        rows = [
            item_log_probs(state.query_D, items, self._table, self._prior)
            for state, items in zip(context.states, context.items, strict=True)
        ]
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    def score_steps(self, context: RuntimeContext, row_P: IntArray, codes_PM: IntArray) -> StepScores:
        """Score the next step of partial paths.

        Shape:
            row_P: (paths,). codes_PM: (paths, codebooks), -1 where a codebook is free.
        """
        states_BD = np.stack([state.own_D for state in context.states])
        return score_steps(self._decoder, states_BD[row_P], codes_PM)

    def forget(self) -> None:
        """Drop all kept states."""
        self._kept.forget()

    def _encoded(self, history: History) -> EncodedHistory:
        own_D, query_D = self._states.of(history)
        return EncodedHistory(own_D=own_D, query_D=query_D)
