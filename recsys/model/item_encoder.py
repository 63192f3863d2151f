"""The item encoder: an item's vector is the projection of its codes' embeddings plus an id vector, or the latter alone.

Axes: P path, M codebook, N item, D width, V width of given vectors, X any row.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.codes.layout import CodeLayout
from recsys.model.config import GeneratorConfig, ModelConfig


class ItemEncoder(nn.Module):
    """Embeds items, and codes for the token decoder too."""

    codes_NM: Tensor

    def __init__(self, config: GeneratorConfig, shape: ModelConfig) -> None:
        super().__init__()
        self.layout = CodeLayout(num_codebooks=config.num_codebooks, codebook_size=config.codebook_size)
        self.register_buffer("codes_NM", torch.zeros(config.num_items, config.num_codebooks, dtype=torch.long))
        self.code_embedding = nn.Embedding(self.layout.num_tokens, shape.code_width)
        self.code_projection = nn.Linear(config.num_codebooks * shape.code_width, shape.width)
        self.code_dropout = nn.Dropout(shape.code_dropout)
        self.id_embedding = nn.Embedding(config.num_items, shape.width)
        self.item_codes = shape.item_codes

    def forward(self, items_X: Tensor | None = None) -> Tensor:
        """Return the vectors of some items, without an argument of all, shape (items, width)."""
        own_XD = self.id_embedding.weight if items_X is None else self.id_embedding(items_X)
        if not self.item_codes:
            return own_XD
        codes_XM = self.codes_NM if items_X is None else self.codes_NM[items_X]
        codes = self.code_embedding(self.tokens(codes_XM)).flatten(1)
        return self.code_projection(self.code_dropout(codes)) + own_XD

    def embed_codes(self, codes_PM: Tensor) -> Tensor:
        """Return the embeddings of the codes of partial paths, zero where a codebook is free.

        Shape:
            codes_PM: (paths, codebooks), -1 where a codebook is free.
            result: (paths, codebooks, code width).
        """
        return self.code_embedding(self.tokens(codes_PM.clamp(min=0))) * (codes_PM >= 0)[..., None]

    def tokens(self, codes_XM: Tensor) -> Tensor:
        """Return the token ids of codes, of the same shape (any rows, codebooks)."""
        return codes_XM + torch.as_tensor(self.layout.first_token_M, device=codes_XM.device)

    @torch.no_grad()
    def start_ids_from(self, vectors_NV: Tensor) -> None:
        """Start the id vectors from unit vectors of known likeness, cut or padded with zeros to the model's width.

        An untrained encoder passes its last input through nearly unchanged, so the item head starts by ranking the
        neighbours of a history's last item.
        """
        width = self.id_embedding.embedding_dim
        shared = min(vectors_NV.shape[1], width)
        self.id_embedding.weight.zero_()
        self.id_embedding.weight[:, :shared] = functional.normalize(vectors_NV[:, :shared], dim=-1)
