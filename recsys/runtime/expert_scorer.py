"""Token experts in the runtime: item log-probabilities of one history at a time, equal to torch's within rounding.

An item's vector is the sum of its codes' vectors, made once when a scorer is made; a log-softmax over the catalogue
follows the products.

Axes: N item, M codebook, K token (code of a codebook), D width, T time, B history, F transition width, E event. Local:
V width of a query's part that the encoder makes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recsys.contracts import History, ItemScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.runtime.compiled import kernel
from recsys.runtime.encoder_stack import EventReader, EventReaders
from recsys.runtime.experts import Expert, codebooks_of, require_codes
from recsys.runtime.functions import log_softmax
from recsys.runtime.history_cache import HistoryCache
from recsys.runtime.item_matrix import ItemMatrix, item_products
from recsys.runtime.states import of_length


class ExpertScorer:
    """Scores items by token experts whose weights were exported, one history at a time, on one thread.

    The experts of a group read a history at once. Queries are kept for the histories that came last, by all that was
    read of them.

    Args:
        experts: of :func:`recsys.runtime.export.export_experts`, or loaded.
        codes_NM: every item's codes in all experts' codebooks.
        codebook_size: number of codes of each codebook.
        groups: names of the experts that score, those that are computed together in one group; others are left out. By
            default all are in one.
        kept_states: for how many histories, one at least: experts are computed one after another.

    Raises:
        ArtifactError: the codes are not of the experts' codebooks.
    """

    def __init__(
        self,
        experts: Sequence[Expert],
        codes_NM: IntArray,
        codebook_size: int,
        *,
        groups: Sequence[Sequence[str]] | None = None,
        kept_states: int = 1,
    ) -> None:
        require_codes(experts, codes_NM, codebook_size)
        self.experts = {expert.name: expert for expert in experts}
        self.num_items = len(codes_NM)
        # one or two bytes a code are read fastest
        narrow_NM = codes_NM.astype(np.min_scalar_type(codebook_size - 1))
        own = {name: np.ascontiguousarray(narrow_NM[:, columns]) for name, columns in codebooks_of(experts).items()}
        together = [list(self.experts)] if groups is None else groups
        self._groups: dict[str, _Group] = {}
        for names in together:
            readers = EventReaders([_reader(self.experts[name], own[name]) for name in names])
            group = _Group(names=tuple(names), readers=readers, kept=HistoryCache(max(1, kept_states)))
            self._groups |= dict.fromkeys(names, group)
        self._vectors = {
            name: ItemMatrix.of(summed_codes(self.experts[name].weights.output_KD, own[name])) for name in self._groups
        }
        self._from_vectors = {name: _transition_vectors(self.experts[name], own[name]) for name in self._groups}
        self._max_history = max(expert.max_history for expert in experts)

    def sources(self) -> dict[str, ItemScores]:
        """Return the log-probabilities of each expert that scores, by its name."""
        return {name: partial(self.log_probs, name) for name in self._groups}

    def log_probs(self, name: str, histories: Sequence[History]) -> FloatArray:
        """Return one expert's log-probability of every item after each history, (histories, items).

        Raises:
            IndexError: an item is not of the catalogue.
        """
        rows = [item_products(self._query(name, history), self._vectors[name]) for history in histories]
        for logits_N in rows:
            log_softmax(logits_N)
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    def forget(self) -> None:
        """Drop all kept states."""
        for group in self._groups.values():
            group.kept.forget()

    def _query(self, name: str, history: History) -> FloatArray:
        items = history.items
        if len(items) and not 0 <= items.min() <= items.max() < self.num_items:
            raise IndexError(
                f"items of a history must be from 0 to {self.num_items - 1}, got {items.min()} to {items.max()}; "
                "give rows of this model's catalogue"
            )
        group = self._groups[name]
        return group.kept.of(history.last(self._max_history), lambda read: self._encoded(group, read))[name]

    def _encoded(self, group: "_Group", history: History) -> dict[str, FloatArray]:
        """Return the queries of a group's experts by their names."""
        queries: dict[str, FloatArray] = {}
        for name, state_D in zip(group.names, group.readers.states(history), strict=True):
            own, latest_E = self.experts[name].weights, history.items[-self.experts[name].max_history :]
            transition_F = transitions(latest_E, self._from_vectors[name], own.transition_TF)
            queries[name] = expert_query(state_D, own.query_DV, own.query_bias_V, own.scale[0], transition_F)
        return queries


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Experts that read a history at once, and their queries after the histories that came last."""

    names: tuple[str, ...]
    readers: EventReaders
    kept: HistoryCache[dict[str, FloatArray]]


def _reader(expert: Expert, codes_NM: NDArray[np.integer]) -> EventReader:
    """Return an expert's encoder, and the sum of each item's code vectors, which it reads."""
    own = expert.weights
    return EventReader(
        encoder=own.encoder,
        longest=expert.max_history,
        item_ND=summed_codes(np.ascontiguousarray(own.input_KD[:, : len(own.start_D)]), codes_NM),
        span_ZD=own.calendar_ED,
        edges_Z=own.calendar_edges_E,
        start_D=own.start_D,
    )


def _transition_vectors(expert: Expert, codes_NM: NDArray[np.integer]) -> FloatArray:
    """Return the vectors that transitions start from, the sum of each item's codes', (items, transition width)."""
    own = expert.weights
    return summed_codes(np.ascontiguousarray(own.input_KD[:, len(own.start_D) :]), codes_NM)


@kernel
def transitions(items_E: IntArray, from_NF: FloatArray, weight_TF: FloatArray) -> FloatArray:
    """Return the weighted sum of the latest items' vectors, (transition width,).

    Shape:
        items_E: a history's items, the latest last. from_NF: (items, transition width). weight_TF: the latest first.
    """
    transition_F = np.zeros(from_NF.shape[1], np.float32)
    for back in range(min(len(items_E), len(weight_TF))):
        item = items_E[len(items_E) - 1 - back]
        for at in range(len(transition_F)):
            transition_F[at] += weight_TF[back, at] * from_NF[item, at]
    return transition_F


@kernel
def expert_query(
    state_D: FloatArray, query_DV: FloatArray, bias_V: FloatArray, scale: np.float32, transition_F: FloatArray
) -> FloatArray:
    """Return an expert's query: the encoder's, the transitions', and the one that meets the codes' biases, (width,)."""
    split = len(bias_V)
    query_D = np.ones(split + len(transition_F) + 1, np.float32)
    query_D[:split] = of_length(np.dot(state_D, query_DV) + bias_V, scale)
    query_D[split:-1] = transition_F
    return query_D


@kernel
def summed_codes(table_KD: FloatArray, codes_NM: NDArray[np.integer]) -> FloatArray:
    """Return the sum of each item's code vectors, (items, width).

    Shape:
        table_KD: (tokens, width). codes_NM: (items, codebooks).
    """
    items, books = codes_NM.shape
    size = len(table_KD) // books
    sums_ND = np.zeros((items, table_KD.shape[1]), np.float32)
    for item in range(items):
        for book in range(books):
            code_D = table_KD[book * size + codes_NM[item, book]]
            for at in range(len(code_D)):
                sums_ND[item, at] += code_D[at]
    return sums_ND
