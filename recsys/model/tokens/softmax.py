"""Cross-entropy over a catalogue, computed chunk by chunk, and its sampled form for large catalogues.

Axes: R row (a training position), N item, D width, Z item of a row's answer, X absent item, Y drawn item.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ROWS = 128
"""Rows whose logits over the catalogue are held at once: 128 x 12,000 floats fit in a processor's cache."""


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


class _ChunkedSoftmax(torch.autograd.Function):
    """Cross-entropy whose logits and gradients are computed chunk by chunk and never stored."""

    @staticmethod
    def forward(ctx: Any, query_RD: Tensor, item_ND: Tensor, answers: Answers, dtype: torch.dtype) -> Tensor:
        items = item_ND.to(dtype)
        grad_query, grad_item = torch.empty_like(query_RD), torch.zeros_like(item_ND)
        total = query_RD.new_zeros(())
        for start in range(0, len(query_RD), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            queries = query_RD[rows].to(dtype)
            logits_RN = (queries @ items.T).float().index_fill_(1, answers.absent_X, float("-inf"))
            normaliser_R1 = logits_RN.logsumexp(1, keepdim=True)
            answer_RZ = logits_RN.gather(1, answers.item_RZ[rows])
            answer_RZ = answer_RZ.masked_fill(answers.prob_RZ[rows] == 0, 0.0)
            total += normaliser_R1.sum() - (answers.prob_RZ[rows] * answer_RZ).sum()
            error_RN = logits_RN.sub_(normaliser_R1).exp_()
            error_RN.scatter_add_(1, answers.item_RZ[rows], -answers.prob_RZ[rows])
            error = error_RN.to(dtype)
            grad_query[rows] = (error @ items).float()
            grad_item += (error.T @ queries).float()
        count = max(1, len(query_RD))
        ctx.save_for_backward(grad_query / count, grad_item / count)
        return total / count

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
