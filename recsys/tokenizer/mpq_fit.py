"""The fit of MPQ: its start, its epochs, and the revival of codes that no item uses.

Axes: N item, B batch, F feature, M codebook, K code, D latent width of one expert, W = M * D.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from recsys.core.arrays import FloatArray
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG, track
from recsys.data.pairs import HeldOutPairs
from recsys.tokenizer.collaborative import collaborative_term
from recsys.tokenizer.mpq_network import MPQConfig, MPQNetwork
from recsys.tokenizer.start import kmeans_codewords, trained_rotation
from recsys.tokenizer.stream import BLOCK, sample

Tokenizer = TypeVar("Tokenizer", bound=MPQNetwork)


def fit_mpq(
    kind: type[Tokenizer],
    vectors_NF: FloatArray,
    config: MPQConfig,
    *,
    seed: int,
    device: str = "cpu",
    pairs: Sequence[HeldOutPairs] = (),
) -> Tokenizer:
    """Fit experts, codebooks, gate and decoder; equal seeds give equal weights on one CPU thread.

    Args:
        kind: the class of the tokenizer.
        vectors_NF: item vectors, finite.
        config: how.
        seed: decides start, batches and pairs.
        device: where to fit.
        pairs: cross-fitted pairs for the collaborative term; not read where its weight is 0.

    Shape:
        vectors_NF: (items, features).

    Raises:
        DataError: a vector is not finite, or there are none, or no pair for the collaborative term.
    """
    points_NF = sample(vectors_NF, config.sample_size, seed)
    tokenizer = kind(config, points_NF.shape[1])
    points = _start(tokenizer, points_NF, seed).to(device)
    tokenizer = tokenizer.to(device)
    batches = -(-len(points) // config.batch_size)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, config.epochs * batches))
    rng = torch.Generator().manual_seed(derive_seed(seed, "mpq", "fit"))
    losses: dict[str, Tensor] = {}
    collaborative = _collaborative(tokenizer, pairs, seed)
    for epoch in track(range(config.epochs), what="tokenizer epochs", total=config.epochs):
        for index_B in torch.randperm(len(points), generator=rng).to(device).split(config.batch_size):
            losses, _ = tokenizer.losses(points[index_B])
            if collaborative is not None:
                losses["collaborative"] = collaborative()
                losses["total"] = losses["total"] + losses["collaborative"]
            optimizer.zero_grad(set_to_none=True)
            losses["total"].backward()
            optimizer.step()
            schedule.step()
        if (epoch + 1) % config.revive_every == 0 and epoch + 1 < config.epochs:
            _revive(tokenizer, points, rng)
    LOG.info("tokenizer: last losses %s", {name: round(loss.item(), 4) for name, loss in losses.items()})
    return tokenizer.eval()


def _collaborative(tokenizer: MPQNetwork, pairs: Sequence[HeldOutPairs], seed: int) -> Callable[[], Tensor] | None:
    config = tokenizer.config.collaborative
    if not config.weight:
        return None
    return collaborative_term(
        tokenizer, pairs, config, torch.Generator().manual_seed(derive_seed(seed, "mpq", "pairs"))
    )


@torch.no_grad()
def _start(tokenizer: MPQNetwork, points_NF: FloatArray, seed: int) -> Tensor:
    """Set the weights before the first epoch and return the standardised points."""
    config, vectors_NF = tokenizer.config, tokenizer.learn_scale(points_NF)
    experts_FW = trained_rotation(
        vectors_NF.numpy(),
        (config.num_codebooks, config.width),
        codes=config.codebook_size,
        steps=config.rotation_steps,
        rng=rng_for(seed, "mpq", "rotation"),
    )
    tokenizer.experts_FW.copy_(torch.from_numpy(experts_FW))
    tokenizer.decoder.weight.copy_(torch.from_numpy(np.linalg.pinv(experts_FW).T))
    latents_NMD = torch.cat([tokenizer.latents(part_BF) for part_BF in vectors_NF.split(BLOCK)]).numpy()
    for book in range(config.num_codebooks):
        kmeans_seed = derive_seed(seed, "mpq", "kmeans", book)
        start_KD = kmeans_codewords(latents_NMD[:, book], config.codebook_size, kmeans_seed)
        tokenizer.codebooks_MKD[book].copy_(torch.from_numpy(start_KD))
    return vectors_NF


@torch.no_grad()
def _revive(tokenizer: MPQNetwork, vectors_NF: Tensor, rng: torch.Generator) -> None:
    """Put codewords that no item uses onto items drawn in proportion to their squared error in that codebook."""
    latents, errors, codes = [], [], []
    for part_BF in vectors_NF.split(BLOCK):
        latents.append(tokenizer.latents(part_BF))
        codes.append(tokenizer.assign(part_BF, latents[-1], tokenizer.config.refine_sweeps))
        errors.append((latents[-1] - tokenizer.look_up(codes[-1])).square().sum(-1))
    latents_NMD, errors_NM, codes_NM = torch.cat(latents), torch.cat(errors).cpu(), torch.cat(codes).cpu()
    for book in range(tokenizer.config.num_codebooks):
        counts_K = torch.bincount(codes_NM[:, book], minlength=tokenizer.config.codebook_size)
        dead_X = torch.nonzero(counts_K == 0).flatten()
        count = min(len(dead_X), int((errors_NM[:, book] > 1e-12).sum()))
        if count:
            items_X = torch.multinomial(errors_NM[:, book], count, generator=rng)
            tokenizer.codebooks_MKD[book, dead_X[:count]] = latents_NMD[items_X, book]
