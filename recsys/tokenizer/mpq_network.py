"""MPQ's network of parallel experts with a codebook each: losses, lookup, refinement.

Axes: B item of a batch, F feature, M codebook, K code, D latent width of one expert, W = M * D.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.core.arrays import FloatArray
from recsys.tokenizer.base import ItemTokenizer, ItemTokenizerConfig, best_scores, nearest_codewords
from recsys.tokenizer.collaborative import CollaborativeConfig
from recsys.tokenizer.losses import (
    joint_straight_through,
    orthogonality_loss,
    quantisation_losses,
    reconstruction_loss,
    straight_through,
)


class MPQConfig(ItemTokenizerConfig):
    """Shape and training of MPQ.

    The defaults are for codes that mean something: experts drift towards the few directions that most items differ
    in, so codebooks agree with each other and with people's words, at the price of reconstruction. Beauty, M 8, D 256,
    one seed: error .400, words that fit at least half of their code's items for .946 of the codes. With rotation_steps
    20, codebook_weight 1, commitment 1, joint_codewords, refine_sweeps 2 and learning_rate 1e-2: .254 and .675.
    """

    width: int = Field(default=32, ge=1)
    """Latent width of one expert; num_codebooks * width above the features' width cannot be orthogonal."""
    use_gate: bool = True
    """Whether a gate weighs each item's codewords; without it every codeword has weight one."""
    rotation_steps: int = Field(default=0, ge=0)
    """Rounds of optimized product quantisation that the experts start from; 0 starts from a balanced rotation."""
    orthogonality: float = Field(default=0.001, ge=0)
    """Weight of the experts' orthogonality (the paper's alpha)."""
    codebook_weight: float = Field(default=4.0, ge=0)
    """Weight of moving codewords to the latents."""
    commitment: float = Field(default=0.25, ge=0)
    """Weight of moving latents to their codewords."""
    joint_codewords: bool = False
    """Whether reconstruction also moves the codewords themselves, not the experts alone."""
    refine_sweeps: int = Field(default=0, ge=0)
    """Rounds over the codebooks in which a code is changed to what reconstructs best beside the others; 0 keeps the
    codes nearest to the experts' latents, as the paper has it."""
    epochs: int = Field(default=60, ge=0)
    """Passes over the items."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's first learning rate; it falls to zero along a cosine."""
    batch_size: int = Field(default=1024, ge=1)
    """Items a step."""
    revive_every: int = Field(default=5, ge=1)
    """Epochs between two revivals of codes that no item uses."""
    collaborative: CollaborativeConfig = CollaborativeConfig()
    """The collaborative loss on pairs of items that are used together."""
    metric: Literal["l2", "cosine"] = "l2"
    """How the nearest codeword is found; cosine puts latents and codewords on the unit sphere."""


class MPQNetwork(ItemTokenizer):
    """Linear experts, a codebook each, a dense gate on the quantised vectors and one shared linear decoder.

    Method: arXiv 2508.15308, section on MPQ; the refinement of codes is ours.
    """

    config: MPQConfig

    def __init__(self, config: MPQConfig, num_features: int) -> None:
        super().__init__(config, num_features)
        latent = config.num_codebooks * config.width
        self.experts_FW = nn.Parameter(torch.zeros(num_features, latent))
        self.codebooks_MKD = nn.Parameter(torch.zeros(config.num_codebooks, config.codebook_size, config.width))
        self.gate = nn.Linear(num_features, config.num_codebooks)
        self.decoder = nn.Linear(latent, num_features)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.decoder.bias)

    @torch.no_grad()
    def directions_FW(self) -> FloatArray:
        """Return the experts' matrices side by side, shape (features, codebooks * width)."""
        return self.experts_FW.cpu().numpy().copy()

    def latents(self, vectors_BF: Tensor) -> Tensor:
        """Return what each expert makes of standardised vectors, shape (batch, codebooks, width)."""
        latents_BMD = (vectors_BF @ self.experts_FW).unflatten(-1, (self.config.num_codebooks, self.config.width))
        return nn.functional.normalize(latents_BMD, dim=-1) if self.config.metric == "cosine" else latents_BMD

    def codewords(self) -> Tensor:
        """Return the codewords that the lookup compares with, shape (codebooks, codes, width)."""
        if self.config.metric == "cosine":
            return nn.functional.normalize(self.codebooks_MKD, dim=-1)
        return self.codebooks_MKD

    def gates(self, vectors_BF: Tensor) -> Tensor:
        """Return the weight of every expert's codeword, mean one, shape (batch, codebooks)."""
        if not self.config.use_gate:
            return vectors_BF.new_ones(len(vectors_BF), self.config.num_codebooks)
        return self.config.num_codebooks * self.gate(vectors_BF).softmax(-1)

    def nearest(self, vectors_BF: Tensor) -> Tensor:
        """Return the codes nearest to the latents, refined by the config's sweeps, shape (batch, codebooks)."""
        return self.assign(vectors_BF, self.latents(vectors_BF), self.config.refine_sweeps)

    @torch.no_grad()
    def assign(self, vectors_BF: Tensor, latents_BMD: Tensor, sweeps: int) -> Tensor:
        """Return the codes nearest to latents after some sweeps of refinement, shape (batch, codebooks)."""
        books = range(self.config.num_codebooks)
        codewords_MKD = self.codewords()
        codes_BM = torch.stack([nearest_codewords(latents_BMD[:, m], codewords_MKD[m]) for m in books], dim=1)
        return self._refine(vectors_BF, codes_BM, sweeps) if sweeps else codes_BM

    def _refine(self, vectors_BF: Tensor, codes_BM: Tensor, sweeps: int) -> Tensor:
        """Descend on the reconstruction error one codebook at a time, the other codes fixed.

        With A the decoder's block of one expert, r the error vector without its codeword and g its gate, a codeword z
        costs g |A z|^2 - 2 z . A^T r, up to a factor; A^T r is kept for all experts and updated through A^T A.
        """
        decoder_FW, width = self.decoder.weight, self.config.width
        gram_WW = decoder_FW.T @ decoder_FW
        codewords_MKD, gates_BM, codes_BM = self.codewords(), self.gates(vectors_BF), codes_BM.clone()
        chosen_BMD = self.look_up(codes_BM)
        pull_BW = (vectors_BF - self.decoder.bias) @ decoder_FW
        pull_BW -= (gates_BM.unsqueeze(-1) * chosen_BMD).flatten(1) @ gram_WW
        blocks = [slice(book * width, (book + 1) * width) for book in range(self.config.num_codebooks)]
        length_MK = [self._lengths(gram_WW[at, at], codewords_MKD[m]) for m, at in enumerate(blocks)]
        for _ in range(sweeps):
            for book, at in enumerate(blocks):
                gate_B1, old_BD = gates_BM[:, book, None], chosen_BMD[:, book]
                alone_BD = pull_BW[:, at] + gate_B1 * (old_BD @ gram_WW[at, at])
                codes_BM[:, book] = best_scores(alone_BD, codewords_MKD[book], length_MK[book], gate_B1)
                new_BD = codewords_MKD[book][codes_BM[:, book]]
                pull_BW -= (gate_B1 * (new_BD - old_BD)) @ gram_WW[at]
                chosen_BMD[:, book] = new_BD
        return codes_BM

    @staticmethod
    def _lengths(gram_DD: Tensor, codewords_KD: Tensor) -> Tensor:
        """Return the squared length of decoded codewords, shape (codes,)."""
        return ((codewords_KD @ gram_DD) * codewords_KD).sum(-1)

    def prices(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:
        """Return the squared error of an item's reconstruction with each code in the place of its own.

        Shape:
            returns: (batch, codebooks, codes).
        """
        decoder_FW, width, codewords_MKD = self.decoder.weight, self.config.width, self.codewords()
        gates_BM, chosen_BMD = self.gates(vectors_BF), self.look_up(codes_BM)
        error_BF = vectors_BF - self.decode(vectors_BF, codes_BM)
        prices_BMK = vectors_BF.new_empty(*codes_BM.shape, self.config.codebook_size)
        for book in range(self.config.num_codebooks):
            block_FD = decoder_FW[:, book * width : (book + 1) * width]
            gate_B1, gram_DD = gates_BM[:, book, None], block_FD.T @ block_FD
            without_BF = error_BF + gate_B1 * (chosen_BMD[:, book] @ block_FD.T)
            length_K = self._lengths(gram_DD, codewords_MKD[book])
            dots_BK = (without_BF @ block_FD) @ codewords_MKD[book].T
            prices_BMK[:, book] = gate_B1 * (gate_B1 * length_K - 2 * dots_BK)
            prices_BMK[:, book] += without_BF.square().sum(-1, keepdim=True)
        return prices_BMK.clamp_min_(0)

    def decode(self, vectors_BF: Tensor, codes_BM: Tensor) -> Tensor:
        """Return standardised reconstructions of codes, the vectors only decide the gate, shape (batch, features)."""
        return self._decode(vectors_BF, self.look_up(codes_BM))

    def _decode(self, vectors_BF: Tensor, quantised_BMD: Tensor) -> Tensor:
        return self.decoder((self.gates(vectors_BF).unsqueeze(-1) * quantised_BMD).flatten(1))

    def losses(self, vectors_BF: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of a batch of standardised vectors by name, "total" their weighted sum, and its codes."""
        config, latents_BMD = self.config, self.latents(vectors_BF)
        codes_BM = self.assign(vectors_BF, latents_BMD, min(config.refine_sweeps, 1))
        codewords_BMD = self.look_up(codes_BM)
        passed = joint_straight_through if config.joint_codewords else straight_through
        passed_BMD = passed(latents_BMD, codewords_BMD)
        codebook, commitment = quantisation_losses(latents_BMD, codewords_BMD)
        parts = {
            "reconstruction": reconstruction_loss(vectors_BF, self._decode(vectors_BF, passed_BMD)),
            "orthogonality": orthogonality_loss(self.experts_FW),
            "codebook": codebook,
            "commitment": commitment,
        }
        weights = {
            "reconstruction": 1.0,
            "orthogonality": config.orthogonality,
            "codebook": config.codebook_weight,
            "commitment": config.commitment,
        }
        total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return parts | {"total": total}, codes_BM
