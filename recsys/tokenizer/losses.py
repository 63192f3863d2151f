"""The losses of MPQ (arXiv 2508.15308, method section 1).

Axes: B batch, F feature, W all experts' latent dimensions, M codebook, D latent width of one expert.
"""

import torch
from torch import Tensor


def orthogonality_loss(experts_FW: Tensor) -> Tensor:
    """Return || W^T W - I ||_F^2 of the column-normalised concatenation of the experts' matrices."""
    unit_FW = torch.nn.functional.normalize(experts_FW, dim=0)
    gram_WW = unit_FW.T @ unit_FW
    return (gram_WW - torch.eye(gram_WW.shape[0], device=gram_WW.device, dtype=gram_WW.dtype)).square().sum()


def reconstruction_loss(vectors_BF: Tensor, decoded_BF: Tensor) -> Tensor:
    """Return the squared distance of vectors and their reconstructions, summed over features, mean over items."""
    return (vectors_BF - decoded_BF).square().sum(-1).mean()


def quantisation_losses(latents_BMD: Tensor, codewords_BMD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codebook loss (moves codewords) and the commitment loss (moves experts), summed over codebooks."""
    codebook = (latents_BMD.detach() - codewords_BMD).square().sum((1, 2)).mean()
    commitment = (latents_BMD - codewords_BMD.detach()).square().sum((1, 2)).mean()
    return codebook, commitment


def straight_through(latents_BMD: Tensor, codewords_BMD: Tensor) -> Tensor:
    """Return the codewords in value, with the whole gradient passed to the latents (the straight-through estimator)."""
    return codewords_BMD.detach() + latents_BMD - latents_BMD.detach()


def joint_straight_through(latents_BMD: Tensor, codewords_BMD: Tensor) -> Tensor:
    """Return the codewords in value, with the whole gradient passed to the latents and to the codewords, too."""
    return codewords_BMD + latents_BMD - latents_BMD.detach()
