"""The collaborative term of a tokenizer's loss: items used one after the other have codewords near each other.

Axes: N item, B pair of a step, F feature, M codebook, D latent width of one expert, W = M * D, P pair.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.core.errors import DataError
from recsys.data.pairs import HeldOutPairs
from recsys.tokenizer.losses import joint_straight_through


class CollaborativeConfig(Config):
    """The collaborative loss: codewords of items that are used together are drawn near each other."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the term; 0 leaves it out."""
    folds: int = Field(default=2, ge=2)
    """Folds of users; pairs of one are compared on item vectors made without them."""
    distance: int = Field(default=1, ge=1)
    """How many events apart the items of a pair may be."""
    temperature: float = Field(default=0.1, gt=0)
    """What cosines are divided by before the softmax over the items of a step."""
    batch_size: int = Field(default=512, ge=2)
    """Pairs a step."""


class _Quantises(Protocol):
    """What the term needs of a tokenizer."""

    @property
    def mean_F(self) -> Tensor: ...
    def standardise(self, vectors_NF: FloatArray) -> Tensor: ...
    def latents(self, vectors_BF: Tensor) -> Tensor: ...
    def assign(self, vectors_BF: Tensor, latents_BMD: Tensor, sweeps: int) -> Tensor: ...
    def look_up(self, codes_BM: Tensor) -> Tensor: ...


def contrastive_loss(
    left_BW: Tensor, right_BW: Tensor, right_B: Tensor, log_share_B: Tensor, temperature: float
) -> Tensor:
    """Return the cross-entropy of finding each pair's second item among the second items of all pairs (InfoNCE).

    Logits are cosines over the temperature, less the log of how often an item is drawn (logQ correction), so that
    popular items are not pushed away for being drawn often. Other pairs with the same second item are left out.

    Shape:
        left_BW, right_BW: (pairs, width).
        right_B: (pairs,) the second items; log_share_B: (pairs,) log of how often each is drawn.
    """
    logits_BB = functional.normalize(left_BW, dim=-1) @ functional.normalize(right_BW, dim=-1).T / temperature
    same_BB = right_B[:, None] == right_B
    same_BB = same_BB & ~torch.eye(len(right_B), dtype=torch.bool, device=same_BB.device)
    own_B = torch.arange(len(right_B), device=same_BB.device)
    return functional.cross_entropy((logits_BB - log_share_B).masked_fill(same_BB, float("-inf")), own_B)


def collaborative_term(
    tokenizer: _Quantises, pairs: Sequence[HeldOutPairs], config: CollaborativeConfig, rng: torch.Generator
) -> Callable[[], Tensor]:
    """Return a function that draws some pairs of one fold and returns their weighted loss.

    Items are compared by their codewords of all codebooks side by side; gradients reach experts and codewords.

    Raises:
        DataError: there is no pair.
    """
    folds = [fold for fold in pairs if len(fold.left_P)]
    if not folds:
        raise DataError(
            "the collaborative term must have users with two different items in a row, got none; "
            "set collaborative.weight of the tokenizer to 0"
        )
    device = tokenizer.mean_F.device
    vectors = [tokenizer.standardise(fold.vectors_NF) for fold in folds]
    ends = [(torch.from_numpy(fold.left_P).to(device), torch.from_numpy(fold.right_P).to(device)) for fold in folds]
    share_N = torch.bincount(torch.cat([right_P for _, right_P in ends]), minlength=len(vectors[0])).float()
    log_share_N = (share_N / share_N.sum()).log()
    size_X = torch.tensor([float(len(left_P)) for left_P, _ in ends])

    def loss() -> Tensor:
        fold = int(torch.multinomial(size_X, 1, generator=rng))
        left_P, right_P = ends[fold]
        drawn_B = torch.randint(len(left_P), (config.batch_size,), generator=rng).to(device)
        left_B, right_B = left_P[drawn_B], right_P[drawn_B]
        vectors_BF = vectors[fold][torch.cat([left_B, right_B])]
        latents_BMD = tokenizer.latents(vectors_BF)
        codewords_BMD = tokenizer.look_up(tokenizer.assign(vectors_BF, latents_BMD, 0))
        left_BW, right_BW = joint_straight_through(latents_BMD, codewords_BMD).flatten(1).chunk(2)
        return config.weight * contrastive_loss(left_BW, right_BW, right_B, log_share_N[right_B], config.temperature)

    return loss
