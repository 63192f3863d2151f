"""A generator of a few hundred weights with the real one's interface, for tests of what stands on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel

from recsys.contracts import History


class TinyConfig(PretrainedConfig):
    model_type = "recsys_tiny"

    def __init__(
        self,
        *,
        num_items: int = 1,
        num_codebooks: int = 1,
        codebook_size: int = 2,
        num_categories: int = 1,
        **kwargs: Any,
    ) -> None:
        self.num_items = num_items
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.num_categories = num_categories
        self.prior_pairs: list[int] = []
        super().__init__(**kwargs)


class TinyGenerator(PreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"
    main_input_name = "items"

    def __init__(self, codes_NM: np.ndarray, *, codebook_size: int, num_categories: int, width: int = 16) -> None:
        items, books = codes_NM.shape
        super().__init__(
            TinyConfig(
                num_items=items,
                num_codebooks=books,
                codebook_size=codebook_size,
                num_categories=num_categories,
            )
        )
        self.register_buffer("codes_NM", torch.as_tensor(codes_NM, dtype=torch.long))
        self.items = nn.Embedding(items, width)
        self.codes = nn.Embedding(books * codebook_size + 1, width)
        self.dropout = nn.Dropout(0.5)
        self.tokens = nn.Linear(width, books * codebook_size)
        self.category = nn.Linear(width, num_categories)
        self.member = None

    def encode(self, histories: Sequence[History]) -> Tensor:
        last = [int(history.items[-1]) if len(history.items) else 0 for history in histories]
        return self.dropout(self.items(torch.tensor(last, device=self.device)))

    def step(self, state_PD: Tensor, codes_PM: Tensor) -> tuple[Tensor, Tensor]:
        books, size = self.config.num_codebooks, self.config.codebook_size
        ids = torch.where(codes_PM < 0, books * size, codes_PM + torch.arange(books, device=self.device) * size)
        mixed = torch.tanh(state_PD + self.codes(ids).sum(dim=1))
        return self.tokens(mixed).view(-1, books, size), self.category(mixed)

    def beliefs(self, state_BD: Tensor, prior_JBN: Tensor) -> Tensor:
        return functional.log_softmax(state_BD @ self.items.weight.T + prior_JBN.sum(0), dim=-1)
