"""The three losses of pre-training, as pure functions.

Axes: R training row (a position), T time, M codebook, K code, N item, Q category, D width, J co-occurrence window,
X item out of the softmax, or entry of the prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional

from recsys.core.arrays import IntArray
from recsys.model.cooccurrence_prior import entries
from recsys.model.item_head import LogitTerms, add_prior_, item_logits
from recsys.sequence.softmax import softmax_, sum_in_chunks


class _ChunkedSoftmax(torch.autograd.Function):
    """Cross-entropy over the catalogue whose logits and gradients are computed in chunks and never stored."""

    @staticmethod
    def forward(  # noqa: PLR0913 (autograd functions take no keywords)
        ctx: Any,
        queries_RD: Tensor,
        keys_ND: Tensor,
        weight_J: Tensor,
        bias_N: Tensor,
        queries: "ItemQueries",
        dtype: torch.dtype,
    ) -> Tensor:
        grad_weight = torch.zeros_like(weight_J)

        def errors(rows: slice, logits_RN: Tensor) -> Tensor:
            part = queries.take(rows)
            prior = _prior_entries(part, logits_RN.device)
            _mask_(add_prior_(logits_RN.add_(bias_N), weight_J, prior), part)
            answered = _answered(logits_RN, part)
            loss = softmax_(logits_RN).sum() - answered
            if part.target_prob_RN is None:
                logits_RN.scatter_add_(1, part.targets_R[:, None], logits_RN.new_full((len(logits_RN), 1), -1.0))
            else:
                logits_RN -= part.target_prob_RN
            for window, (place_X, value_X) in enumerate(prior):
                grad_weight[window] += logits_RN.view(-1)[place_X] @ value_X
            return loss

        sums, count = sum_in_chunks(queries_RD, keys_ND, errors, dtype), len(queries_RD)
        ctx.save_for_backward(sums.queries_RD / count, sums.keys_ND / count, grad_weight / count)
        return sums.total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        grad_queries, grad_keys, grad_weight = ctx.saved_tensors
        return grads[0] * grad_queries, grads[0] * grad_keys, grads[0] * grad_weight, None, None, None


@dataclass(frozen=True, kw_only=True)
class ItemQueries:
    """What the item softmax needs of a batch of rows besides their query vectors.

    Shape:
        targets_R: (rows,) catalogue indices.
        seen_RT: (rows, time) indices to leave out; pad with the row's own target, which always stays in.
        absent_X: items without training events; they are out of every row's softmax.
        prior_scores: for each window of the prior sparse (rows, items) scores; empty without a prior.
        correction_N: (items,) taken off all logits but the target's, in a softmax over drawn items; else None.
        target_prob_RN: (rows, items) target probabilities, 0 for items that are out; None: ``targets_R`` are the
            targets.
    """

    targets_R: Tensor
    seen_RT: Tensor
    absent_X: Tensor
    prior_scores: Sequence[csr_array] = ()
    target_prob_RN: Tensor | None = None
    correction_N: Tensor | None = None

    def take(self, rows: slice | IntArray) -> "ItemQueries":
        """Return the same for some rows: a slice, or their numbers."""
        return replace(
            self,
            targets_R=self.targets_R[rows],
            seen_RT=self.seen_RT[rows],
            prior_scores=[prior_RN[rows] for prior_RN in self.prior_scores],
            target_prob_RN=None if self.target_prob_RN is None else self.target_prob_RN[rows],
        )


def _answered(logits_RN: Tensor, queries: ItemQueries) -> Tensor:
    """Return the sum over rows of the target's logit, or of the mean logit under the target probabilities."""
    if queries.target_prob_RN is None:
        return logits_RN.gather(1, queries.targets_R[:, None]).sum()
    return (logits_RN.masked_fill(queries.target_prob_RN == 0, 0.0) * queries.target_prob_RN).sum()


def _prior_entries(queries: ItemQueries, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return each window's entries in the flattened logits of the rows."""
    return [entries(prior_RN, device) for prior_RN in queries.prior_scores]


def _mask_(logits_RN: Tensor, queries: ItemQueries) -> Tensor:
    """Set the logits of items that are out to minus infinity in place, correct drawn ones, and return them."""
    targets_R1 = queries.targets_R[:, None]
    wanted_R1 = logits_RN.gather(1, targets_R1)
    if queries.correction_N is not None:
        logits_RN -= queries.correction_N
    logits_RN.index_fill_(1, queries.absent_X, float("-inf"))
    return logits_RN.scatter_(1, queries.seen_RT, float("-inf")).scatter_(1, targets_R1, wanted_R1)


def item_loss(terms: LogitTerms, queries: ItemQueries, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the mean cross-entropy over the catalogue, with what the user already has taken out of the softmax.

    Matrix products run in ``dtype``, the softmax itself in float32.
    """
    parts = (terms.queries_BD, terms.keys_ND, terms.weight_J, terms.bias_N, queries, dtype)
    return _ChunkedSoftmax.apply(*parts)  # type: ignore[no-untyped-call]


def token_loss(logits_RMK: Tensor, allowed_RMK: Tensor, targets_RMK: Tensor, free_RM: Tensor) -> Tensor:
    """Return the token loss under the mask that decoding uses (method: L_token, any order).

    Each free codebook's softmax runs over the codes that exist among the items still compatible with the path, so the
    loss covers only choices that exist. Mean over (row, codebook) pairs that leave a choice.

    Shape:
        logits_RMK, allowed_RMK: (rows, codebooks, codes).
        targets_RMK: (rows, codebooks, codes) the wanted distribution, 0 where a code is not allowed.
        free_RM: (rows, codebooks) True where the codebook is not chosen yet.
    """
    log_probs_RMK = functional.log_softmax(logits_RMK.masked_fill(~allowed_RMK, -1e9), dim=-1)
    picked_RM = (log_probs_RMK * targets_RMK).sum(-1)
    counted_RM = (free_RM & (allowed_RMK.sum(-1) > 1)).float()
    return -(picked_RM * counted_RM).sum() / counted_RM.sum().clamp(min=1.0)


@torch.no_grad()
def item_softmax(terms: LogitTerms, queries: ItemQueries, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the item softmax itself, masked as :func:`item_loss` trains it, (rows, items)."""
    cast = replace(terms, queries_BD=terms.queries_BD.to(dtype), keys_ND=terms.keys_ND.to(dtype))
    logits_RN = _mask_(item_logits(cast, _prior_entries(queries, terms.keys_ND.device)), queries)
    softmax_(logits_RN)
    return logits_RN


def category_loss(category_logits_RQ: Tensor, category_R: Tensor) -> Tensor:
    """Return the mean cross-entropy of the target's category, predicted before the token (method: L_cate)."""
    return functional.cross_entropy(category_logits_RQ, category_R)
