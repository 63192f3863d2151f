"""Sampling of paths from the policy, in the order CRSS chooses codebooks.

Axes: R training row (a sampled path), M codebook, O choice of a path in the order chosen, K code, Q category, D width.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from recsys.alignment.policy import BARRED, PathBackbone


@dataclass(frozen=True, kw_only=True)
class SampledPaths:
    """Sampled paths with the probabilities of their steps.

    Shape:
        book_RO, code_RO: (rows, steps) the path in the order it was chosen.
        choice_RO: (rows, steps) whether more than one code was allowed.
        log_prob_RO: (rows, steps) log-probability of each code under the mask it was sampled with.
        category_ROQ: (rows, steps, categories) category distribution before each step.
        tokens_RM: (rows, codebooks) the codes in codebook order.
    """

    book_RO: Tensor
    code_RO: Tensor
    choice_RO: Tensor
    log_prob_RO: Tensor
    category_ROQ: Tensor
    tokens_RM: Tensor

    def take(self, row_X: Tensor) -> "SampledPaths":
        """Return some of the paths."""
        return SampledPaths(**{field.name: getattr(self, field.name)[row_X] for field in fields(self)})

    def token_ids(self, codebook_size: int) -> Tensor:
        """Return [codebook token, code token] pairs, shape (rows, 2 x steps)."""
        return torch.stack([self.book_RO + codebook_size, self.code_RO], dim=2).flatten(1)


def choose_codebook(logits_RMK: Tensor, allowed_RMK: Tensor, codes_RM: Tensor) -> Tensor:
    """Return the free codebook whose best code is most probable under a softmax over its allowed codes (CRSS), (rows,).

    The rule is the decoder's, in torch: codebooks that still leave a choice go before those with one allowed code.

    Shape:
        logits_RMK, allowed_RMK: (rows, codebooks, codes).
        codes_RM: (rows, codebooks), -1 where a codebook is free.
    """
    best_RM = logits_RMK.masked_fill(~allowed_RMK, BARRED).softmax(dim=-1).amax(dim=-1)
    choice_RM = (allowed_RMK.sum(dim=-1) > 1).float()
    return (best_RM + 2.0 * choice_RM).masked_fill(codes_RM >= 0, -1.0).argmax(dim=-1)


@torch.no_grad()
def sample_paths(
    backbone: PathBackbone,
    prompt_R: Tensor,
    *,
    temperature: float,
    rng: torch.Generator,
    item_R: Tensor | None = None,
) -> SampledPaths:
    """Sample one path per row; rows of the same prompt share its encoding.

    A demonstration's codes are its item's; the order in which they are chosen is the policy's as everywhere.

    Shape:
        prompt_R: (rows,) indices of the bound prompts.
        item_R: (rows,) the item that a row demonstrates, -1 where its path is sampled; None samples all.
    """
    demonstrated_RM = (
        None if item_R is None else torch.where(item_R[:, None] >= 0, backbone.generator.codes_NM[item_R], -1)
    )
    state = backbone.prompt_state(prompt_R)
    candidates = backbone.start(state)
    rows = torch.arange(len(prompt_R), device=prompt_R.device)
    codes_RM = torch.full((len(rows), backbone.validity.num_codebooks), -1, device=prompt_R.device)
    books, codes, choices, log_probs, categories = [], [], [], [], []
    for _ in range(codes_RM.shape[1]):
        logits_RMK, allowed_RMK, category_RQ = backbone.step(state, codes_RM, candidates)
        book_R = choose_codebook(logits_RMK, allowed_RMK, codes_RM)
        logits_RK = logits_RMK[rows, book_R] / temperature
        code_R = torch.multinomial(logits_RK.softmax(dim=-1), 1, generator=rng).squeeze(1)
        if demonstrated_RM is not None:
            demonstrated_R = demonstrated_RM[rows, book_R]
            code_R = torch.where(demonstrated_R >= 0, demonstrated_R, code_R)
        books.append(book_R)
        codes.append(code_R)
        choices.append(allowed_RMK[rows, book_R].sum(dim=-1) > 1)
        log_probs.append(logits_RK.log_softmax(dim=-1)[rows, code_R])
        categories.append(category_RQ.softmax(dim=-1))
        codes_RM, candidates = backbone.chosen(codes_RM, candidates, book_R, code_R)
    return SampledPaths(
        book_RO=torch.stack(books, dim=1),
        code_RO=torch.stack(codes, dim=1),
        choice_RO=torch.stack(choices, dim=1),
        log_prob_RO=torch.stack(log_probs, dim=1),
        category_ROQ=torch.stack(categories, dim=1),
        tokens_RM=codes_RM,
    )
