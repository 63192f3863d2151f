"""Cross-entropy over a catalogue, computed in chunks of rows, and its sampled form for large catalogues.

Axes: R row (a training position), N item, D width, Z item of a row's answer, X absent item, Y drawn item.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ROWS, BLOCK_ROWS = 256, 64
"""Rows whose errors and whose logits over the catalogue are held at once on a CPU: 64 x 12,000 floats about fit in a
core's own cache."""
DEVICE_ROWS = 1024
"""Rows of both on other devices, where many small products would take longer than few large ones."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What each row should predict: one item, or a distribution over some items.

    Shape:
        item_RZ: (rows, candidates) catalogue indices, distinct within a row where their probability is not 0.
        prob_RZ: (rows, candidates) probabilities, rows sum to one.
        absent_X: indices of items that are left out of every row's softmax, because no training event chose one.
    """

    item_RZ: Tensor
    prob_RZ: Tensor
    absent_X: Tensor

    @classmethod
    def single(cls, item_R: Tensor, absent_X: Tensor) -> "Answers":
        """Return answers of one item each."""
        return cls(
            item_RZ=item_R[:, None], prob_RZ=torch.ones_like(item_R[:, None], dtype=torch.float), absent_X=absent_X
        )


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The sum of a loss over rows and its gradients in what the rows' logits are products of."""

    total: Tensor
    queries_RD: Tensor
    keys_ND: Tensor


def sum_in_chunks(
    queries_RD: Tensor, keys_ND: Tensor, errors: Callable[[slice, Tensor], Tensor], dtype: torch.dtype
) -> Gradients:
    """Return the loss of all rows and its gradients; neither logits nor errors of all rows are ever held.

    Matrix products run in ``dtype``.

    Args:
        queries_RD: (rows, width), inner products with keys are logits.
        keys_ND: (items, width).
        errors: turns the logits of some rows (rows, items), float32, in place into the loss's gradients in them, and
            returns the sum of these rows' losses.
        dtype: of the matrix products.
    """
    keys, queries = keys_ND.to(dtype), queries_RD.to(dtype)
    grad_queries, grad_keys = torch.empty_like(queries_RD), torch.zeros_like(keys_ND)
    total = queries_RD.new_zeros(())
    chunk_rows, block_rows = (CHUNK_ROWS, BLOCK_ROWS) if keys.device.type == "cpu" else (DEVICE_ROWS, DEVICE_ROWS)
    held = queries.new_empty(min(chunk_rows, len(queries)), len(keys))
    logits = queries_RD.new_empty(min(block_rows, len(queries)), len(keys))
    for start in range(0, len(queries), chunk_rows):
        chunk = slice(start, min(start + chunk_rows, len(queries)))
        for first in range(chunk.start, chunk.stop, block_rows):
            block = slice(first, min(first + block_rows, chunk.stop))
            logits_RN = logits[: block.stop - first].copy_(queries[block] @ keys.T)
            total += errors(block, logits_RN)
            held[first - start : block.stop - start] = logits_RN
        error_RN = held[: chunk.stop - start]
        grad_queries[chunk] = error_RN @ keys
        grad_keys += error_RN.T @ queries[chunk]
    return Gradients(total=total, queries_RD=grad_queries, keys_ND=grad_keys)


def softmax_(logits_RN: Tensor) -> Tensor:
    """Turn logits into probabilities in place, and return the logarithms of their normalisers, (rows, 1)."""
    highest_R1 = logits_RN.amax(1, keepdim=True)
    sum_R1 = logits_RN.sub_(highest_R1).exp_().sum(1, keepdim=True)
    logits_RN.mul_(1 / sum_R1)
    return highest_R1 + sum_R1.log()


class _ChunkedSoftmax(torch.autograd.Function):
    """Cross-entropy whose logits and gradients are computed in chunks and never stored."""

    @staticmethod
    def forward(ctx: Any, query_RD: Tensor, item_ND: Tensor, answers: Answers, dtype: torch.dtype) -> Tensor:
        def errors(rows: slice, logits_RN: Tensor) -> Tensor:
            item_RZ, prob_RZ = answers.item_RZ[rows], answers.prob_RZ[rows]
            logits_RN.index_fill_(1, answers.absent_X, float("-inf"))
            answer_RZ = logits_RN.gather(1, item_RZ).masked_fill(prob_RZ == 0, 0.0)
            loss = softmax_(logits_RN).sum() - (prob_RZ * answer_RZ).sum()
            logits_RN.scatter_add_(1, item_RZ, -prob_RZ)
            return loss

        sums = sum_in_chunks(query_RD, item_ND, errors, dtype)
        count = max(1, len(query_RD))
        ctx.save_for_backward(sums.queries_RD / count, sums.keys_ND / count)
        return sums.total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_query, grad_item = ctx.saved_tensors
        return grads[0] * grad_query, grads[0] * grad_item, None, None


def catalogue_cross_entropy(
    query_RD: Tensor, item_ND: Tensor, answers: Answers, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the mean cross-entropy of the answers under a softmax over all items that are not absent.

    Matrix products run in ``dtype``, the softmax itself in float32.

    Shape:
        query_RD: (rows, width), inner products with items are logits.
        item_ND: (items, width).
    """
    return _ChunkedSoftmax.apply(query_RD, item_ND, answers, dtype)  # type: ignore[no-untyped-call]


def sampled_cross_entropy(
    query_RD: Tensor, own_RD: Tensor, drawn_YD: Tensor, *, same_RY: Tensor, log_expected_Y: Tensor
) -> Tensor:
    """Return the mean cross-entropy of each row's own item against drawn items, corrected for how often they are drawn.

    A drawn item's logit is lowered by the log of its expected number of draws (logQ correction, Bengio and Senecal
    2008), so that the expected normaliser is that of the full softmax; a row's own item is always in and not corrected.

    Shape:
        query_RD, own_RD: (rows, width) queries and vectors of the answers.
        drawn_YD: (drawn, width) vectors of the drawn items.
        same_RY: (rows, drawn) True where a drawn item is the row's own, which is left out.
        log_expected_Y: (drawn,) log of the expected number of draws of each drawn item.
    """
    own_R1 = (query_RD * own_RD).sum(-1, keepdim=True)
    drawn_RY = (query_RD @ drawn_YD.T - log_expected_Y).masked_fill(same_RY, float("-inf"))
    first_R = torch.zeros(len(query_RD), dtype=torch.long, device=query_RD.device)
    return functional.cross_entropy(torch.cat([own_R1, drawn_RY], dim=1), first_R)
