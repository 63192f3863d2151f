"""A baseline tokenizer, RQ-VAE: a small autoencoder whose latent is a sum of codewords, level by level.

Axes: N item, B item of a batch, F feature, M level, K code, D latent width.
"""

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG, track
from recsys.tokenizer.additive import exchange_prices, greedy_codes, summed
from recsys.tokenizer.base import ItemTokenizer, ItemTokenizerConfig
from recsys.tokenizer.losses import reconstruction_loss, straight_through
from recsys.tokenizer.start import kmeans_codewords
from recsys.tokenizer.stream import BLOCK, sample


class RQVAESettings(Config):
    """Settings of the RQ-VAE alone."""

    latent_width: int = Field(default=128, ge=1)
    """Width of the latent that is quantised."""
    hidden: int = Field(default=512, ge=1)
    """Width of the one hidden layer of encoder and decoder."""
    warm_epochs: int = Field(default=20, ge=0)
    """Passes over the items as a plain autoencoder, before the codewords start at k-means of its latents."""
    epochs: int = Field(default=40, ge=0)
    """Passes over the items with codewords."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Adam's first learning rate; it falls to zero along a cosine."""
    batch_size: int = Field(default=512, ge=1)
    """Items a step."""
    commitment: float = Field(default=0.002, ge=0)
    """Weight of moving latents to their codewords, beside weight one of moving codewords to latents. Items have length
    about one and latents more: at .25 the latents shrink (Amazon Beauty: relative error .51 against .28)."""
    revive_every: int = Field(default=5, ge=1)
    """Epochs between two revivals of codes that no item uses."""


class RQVAEConfig(ItemTokenizerConfig, RQVAESettings):
    """Shape and training of the RQ-VAE."""


class RQVAETokenizer(ItemTokenizer):
    """The tokenizer of TIGER (Rajput et al. 2023, arXiv 2305.05065, section 3.1), with parallel use of its codes."""

    kind: ClassVar[str] = "rqvae"
    config_class: ClassVar[type[ItemTokenizerConfig]] = RQVAEConfig
    config: RQVAEConfig

    def __init__(self, config: RQVAEConfig, num_features: int) -> None:
        super().__init__(config, num_features)
        self.encoder = _network(num_features, config.hidden, config.latent_width)
        self.decoder = _network(config.latent_width, config.hidden, num_features)
        empty_MKD = torch.zeros(config.num_codebooks, config.codebook_size, config.latent_width)
        self.codebooks_MKD = nn.Parameter(empty_MKD)

    @classmethod
    def fit(cls, vectors_NF: FloatArray, config: RQVAEConfig, *, seed: int, device: str = "cpu") -> Self:
        """Train the autoencoder, start the codewords at k-means, train both, see :meth:`ItemTokenizer.fit`."""
        points_NF = sample(vectors_NF, config.sample_size, seed)
        tokenizer = cls(config, points_NF.shape[1])
        rng = torch.Generator().manual_seed(derive_seed(seed, "rqvae"))
        for parameter in (*tokenizer.encoder.parameters(), *tokenizer.decoder.parameters()):
            if parameter.ndim == 2:
                nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=rng)
            else:
                nn.init.zeros_(parameter)
        points = tokenizer.learn_scale(points_NF).to(device)
        tokenizer = tokenizer.to(device)
        tokenizer._train(points, config.warm_epochs, rng, loss_of=tokenizer.autoencoder_loss)
        tokenizer._start_codewords(points, seed)
        tokenizer._train(points, config.epochs, rng, loss_of=tokenizer.loss, revive=tokenizer._revive)
        return tokenizer.eval()

    def latents(self, vectors_BF: Tensor) -> Tensor:
        """Return what the encoder makes of standardised vectors, shape (batch, latent width).

        Standardised vectors have length about one; the network is given features of size about one.
        """
        return self.encoder(vectors_BF * self.num_features**0.5)

    def features(self, latents_BD: Tensor) -> Tensor:
        """Return what the decoder makes of latents, standardised, shape (batch, features)."""
        return self.decoder(latents_BD)

    def _train(
        self,
        vectors_NF: Tensor,
        epochs: int,
        rng: torch.Generator,
        *,
        loss_of: Callable[[Tensor], Tensor],
        revive: Callable[[Tensor, torch.Generator], None] | None = None,
    ) -> None:
        """Take some passes over the items; ``revive`` is called every few of them, but not after the last one."""
        config = self.config
        batches = -(-len(vectors_NF) // config.batch_size)
        optimizer = torch.optim.Adam(self.parameters(), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, epochs * batches))
        loss = torch.zeros(())
        for epoch in track(range(epochs), what="tokenizer epochs", total=epochs):
            for index_B in (
                torch.randperm(len(vectors_NF), generator=rng).to(vectors_NF.device).split(config.batch_size)
            ):
                loss = loss_of(vectors_NF[index_B])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
            if revive is not None and (epoch + 1) % config.revive_every == 0 and epoch + 1 < epochs:
                revive(vectors_NF, rng)
        LOG.info("tokenizer: last loss %.4f", loss.item())

    def autoencoder_loss(self, vectors_BF: Tensor) -> Tensor:
        """Return the reconstruction loss of latents that are not quantised."""
        return reconstruction_loss(vectors_BF, self.features(self.latents(vectors_BF)))

    def loss(self, vectors_BF: Tensor) -> Tensor:
        """Return the sum of reconstruction loss, codebook loss and commitment loss, the last two over all levels."""
        latents_BD = self.latents(vectors_BF)
        with torch.no_grad():
            codes_BM = greedy_codes(latents_BD, self.codebooks_MKD)
        chosen_BMD = self.look_up(codes_BM)
        before_BMD = chosen_BMD.cumsum(1) - chosen_BMD
        rest_BMD = latents_BD.unsqueeze(1) - before_BMD.detach()
        codebook = (rest_BMD.detach() - chosen_BMD).square().sum((1, 2)).mean()
        commitment = (rest_BMD - chosen_BMD.detach()).square().sum((1, 2)).mean()
        decoded_BF = self.features(straight_through(latents_BD, chosen_BMD.sum(1)))
        return reconstruction_loss(vectors_BF, decoded_BF) + codebook + self.config.commitment * commitment

    @torch.no_grad()
    def _all_latents(self, vectors_NF: Tensor) -> Tensor:
        return torch.cat([self.latents(part_BF) for part_BF in vectors_NF.split(BLOCK)])

    @torch.no_grad()
    def _start_codewords(self, vectors_NF: Tensor, seed: int) -> None:
        rest_ND = self._all_latents(vectors_NF)
        for level in range(self.config.num_codebooks):
            kmeans_seed = derive_seed(seed, "rqvae", "kmeans", level)
            start_KD = kmeans_codewords(rest_ND.cpu().numpy(), self.config.codebook_size, kmeans_seed)
            self.codebooks_MKD[level].copy_(torch.from_numpy(start_KD))
            rest_ND = rest_ND - summed(
                greedy_codes(rest_ND, self.codebooks_MKD[level, None]), self.codebooks_MKD[level, None]
            )

    @torch.no_grad()
    def _revive(self, vectors_NF: Tensor, rng: torch.Generator) -> None:
        """Put codewords that no item uses onto residuals of items drawn in proportion to their squared length."""
        rest_ND = self._all_latents(vectors_NF)
        for level in range(self.config.num_codebooks):
            codewords_1KD = self.codebooks_MKD[level, None]
            codes_N1 = greedy_codes(rest_ND, codewords_1KD)
            left_ND = rest_ND - summed(codes_N1, codewords_1KD)
            error_N = left_ND.square().sum(-1).cpu()
            counts_K = torch.bincount(codes_N1.flatten().cpu(), minlength=self.config.codebook_size)
            dead_X = torch.nonzero(counts_K == 0).flatten()
            count = min(len(dead_X), int((error_N > 1e-12).sum()))
            if count:
                items_X = torch.multinomial(error_N, count, generator=rng)
                self.codebooks_MKD[level, dead_X[:count]] = rest_ND[items_X]
            rest_ND = left_ND

    def codewords(self) -> Tensor:
        """Return the codewords, all in the latent space, shape (levels, codes, latent width)."""
        return self.codebooks_MKD

    def nearest(self, vectors_BF: Tensor) -> Tensor:
        """Return the codes level by level, shape (batch, levels)."""
        return greedy_codes(self.latents(vectors_BF), self.codebooks_MKD)

    def decode(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:  # noqa: ARG002 (these codes decode alone)
        """Return what the decoder makes of the summed codewords, shape (batch, features)."""
        return self.features(summed(codes_BM, self.codebooks_MKD))

    def prices(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:
        """Return the squared error of the latent with each code in the place of an item's own.

        The error of the features would cost a pass through the decoder for each of all codes.

        Shape:
            returns: (batch, levels, codes).
        """
        return exchange_prices(self.latents(vectors_BF), codes_BM, self.codebooks_MKD)


def _network(num_inputs: int, hidden: int, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_inputs, hidden), nn.SiLU(), nn.Linear(hidden, num_outputs))
