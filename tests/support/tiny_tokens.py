"""Token models small enough for tests, and a circle of items that they can learn."""

import numpy as np
import torch

from recsys.codes.layout import CodeLayout
from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.model.tokens.config import TokenModelConfig
from recsys.model.tokens.mixture import TokenMixture
from recsys.model.tokens.network import TokenModel

SHAPE = TokenModelConfig(
    width=16,
    layers=1,
    heads=2,
    dropout=0.0,
    input_dropout=0.0,
    max_history=6,
    calendar=4,
    transition_width=4,
    transition_events=3,
)
LAYOUT = CodeLayout(num_codebooks=2, codebook_size=5)


def circle_codes(num_items: int = 20) -> IntArray:
    """Return codes that tell 25 items apart: the place in a row of five, and the row."""
    return np.stack([np.arange(num_items) % 5, np.arange(num_items) // 5 % 5], axis=1)


def tiny_model(
    codes_NM: IntArray | None = None, *, seed: int = 0, size: int = 5, shape: TokenModelConfig = SHAPE
) -> TokenModel:
    """Return an untrained model whose codes all have biases."""
    codes_NM = circle_codes() if codes_NM is None else codes_NM
    torch.manual_seed(seed)
    model = TokenModel(shape, CodeLayout(num_codebooks=codes_NM.shape[1], codebook_size=size), codes_NM)
    with torch.no_grad():
        model.code_out[:, -1].normal_()
    return model.eval()


def tiny_mixture() -> TokenMixture:
    """Return two experts with codes of their own over 20 items."""
    other_NM = np.stack([np.arange(20) // 4, np.arange(20) * 3 % 5, np.arange(20) % 4], axis=1)
    return TokenMixture({"first": tiny_model(), "second": tiny_model(other_NM, seed=1)}, [0.7, 0.4]).eval()


def histories() -> list[History]:
    """Return an empty history, a short one, and one longer than the models read."""
    return [History(items=np.arange(length), timestamps=np.arange(length) * 3600) for length in (0, 2, 9)]
