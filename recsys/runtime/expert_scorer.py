"""Token experts in the runtime: item log-probabilities of one history at a time, equal to torch's within rounding.

An item's logit is the sum of its codes' logits, each looked up in its codebook; a log-softmax over the catalogue
follows.

Axes: N item, M codebook, K token (code of a codebook), D width, T time, B history.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recsys.contracts import History, ItemScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.runtime.compiled import kernel
from recsys.runtime.encoder import encode_last
from recsys.runtime.experts import Expert, ExpertWeights, codebooks_of, require_codes
from recsys.runtime.functions import log_softmax
from recsys.runtime.head import products
from recsys.runtime.kept import KeptStates
from recsys.runtime.states import unit


class ExpertScorer:
    """Scores items by token experts whose weights were exported, one history at a time, on one thread.

    Queries are kept for the histories that came last, by all that was read of them.

    Args:
        experts: of :func:`recsys.runtime.export.export_experts`, or loaded.
        codes_NM: every item's codes in all experts' codebooks.
        codebook_size: number of codes of each codebook.
        kept_states: for how many histories.

    Raises:
        ArtifactError: the codes are not of the experts' codebooks.
    """

    def __init__(
        self, experts: Sequence[Expert], codes_NM: IntArray, codebook_size: int, *, kept_states: int = 0
    ) -> None:
        require_codes(experts, codes_NM, codebook_size)
        self.experts = {expert.name: expert for expert in experts}
        self.num_items, self._size = len(codes_NM), codebook_size
        # one or two bytes a code are read fastest
        narrow_MN = np.ascontiguousarray(codes_NM.T, np.min_scalar_type(codebook_size - 1))
        self._codes = {name: narrow_MN[columns] for name, columns in codebooks_of(experts).items()}
        self._kept: dict[str, KeptStates[FloatArray]] = {name: KeptStates(kept_states) for name in self.experts}

    def sources(self) -> dict[str, ItemScores]:
        """Return each expert's log-probabilities by its name."""
        return {name: partial(self.log_probs, name) for name in self.experts}

    def log_probs(self, name: str, histories: Sequence[History]) -> FloatArray:
        """Return one expert's log-probability of every item after each history, (histories, items).

        Raises:
            IndexError: an item is not of the catalogue.
        """
        output_KD, codes_MN = self.experts[name].weights.output_KD, self._codes[name]
        rows = [summed_log_probs(self._query(name, history), output_KD, codes_MN) for history in histories]
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    def forget(self) -> None:
        """Drop all kept states."""
        for kept in self._kept.values():
            kept.forget()

    def _query(self, name: str, history: History) -> FloatArray:
        items = history.items
        if len(items) and not 0 <= items.min() <= items.max() < self.num_items:
            raise IndexError(
                f"items of a history must be from 0 to {self.num_items - 1}, got {items.min()} to {items.max()}; "
                "give rows of this model's catalogue"
            )
        expert = self.experts[name]
        read = history.last(expert.max_history)
        return self._kept[name].of(read, lambda read: expert_query(expert.weights, self._codes[name], read))


def expert_query(weights: ExpertWeights, codes_MN: NDArray[np.integer], history: History) -> FloatArray:
    """Return an expert's query after a history; its last number is the one that meets the codes' biases, (width,)."""
    span_T = np.searchsorted(weights.calendar_edges_E, history.timestamps)
    x_TD = np.empty((len(span_T) + 1, len(weights.start_D)), np.float32)
    x_TD[0] = weights.start_D
    _item_inputs(x_TD[1:], weights.input_KD, codes_MN, history.items)
    x_TD[1:] += weights.calendar_ED[span_T]
    # the start vector has the time of the first event
    seconds_T = np.concatenate([history.timestamps[:1], history.timestamps]) if len(span_T) else np.zeros(1, np.int64)
    state_D = encode_last(x_TD, seconds_T, weights.encoder)
    direction_F = unit(state_D @ weights.query_DF + weights.query_bias_F)
    return np.append(weights.scale * direction_F, np.float32(1.0))


@kernel
def _item_inputs(x_TD: FloatArray, input_KD: FloatArray, codes_MN: NDArray[np.integer], items_T: IntArray) -> None:
    """Write the sum of each item's code vectors."""
    books = len(codes_MN)
    size = len(input_KD) // books
    for at in range(len(items_T)):
        x_D = x_TD[at]
        x_D[:] = 0
        for book in range(books):
            code_D = input_KD[book * size + codes_MN[book, items_T[at]]]
            for place in range(len(x_D)):
                x_D[place] += code_D[place]


@kernel
def summed_log_probs(query_D: FloatArray, output_KD: FloatArray, codes_MN: NDArray[np.integer]) -> FloatArray:
    """Return the log-softmax over all items of the sum of their codes' logits, (items,).

    Shape:
        query_D: (width,). output_KD: (tokens, width). codes_MN: (codebooks, items).
    """
    logits_K = products(query_D, output_KD)
    books, items = codes_MN.shape
    size = len(logits_K) // books
    logits_N = np.zeros(items, np.float32)
    fours = books - books % 4
    for book in range(0, fours, 4):  # four at once: a sum is read and written a fourth as often
        first_K, second_K = logits_K[book * size :], logits_K[(book + 1) * size :]
        third_K, fourth_K = logits_K[(book + 2) * size :], logits_K[(book + 3) * size :]
        first_N, second_N, third_N, fourth_N = (
            codes_MN[book],
            codes_MN[book + 1],
            codes_MN[book + 2],
            codes_MN[book + 3],
        )
        for item in range(items):
            two = first_K[first_N[item]] + second_K[second_N[item]]
            logits_N[item] += two + (third_K[third_N[item]] + fourth_K[fourth_N[item]])
    for book in range(fours, books):
        own_K, code_N = logits_K[book * size :], codes_MN[book]
        for item in range(items):
            logits_N[item] += own_K[code_N[item]]
    log_softmax(logits_N)
    return logits_N
