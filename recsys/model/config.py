"""The generator's settings: its shape in a recipe, and the sizes that are saved with it."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field
from transformers import PretrainedConfig

from recsys.core.config import Config


class ModelConfig(Config):
    """The generator's shape."""

    width: int = 128
    """Width of item vectors and of the encoder."""
    code_width: int = 32
    """Width of one code's embedding; an item concatenates one per codebook."""
    decoder_width: int = 512
    """Hidden width of the any-order token decoder."""
    layers: int = 2
    """Encoder layers."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.4
    """Dropout inside the encoder and the token decoder."""
    input_scale: float = 5.0
    """By how much item vectors are multiplied before the encoder: unscaled, its layers drown the item at first."""
    code_dropout: float = 0.1
    """Dropout on the concatenated code embeddings of an item."""
    max_history: int = 50
    """How many of the latest events the encoder sees."""
    calendar: int = Field(default=64, ge=1)
    """Into how many spans of equal numbers of training events time is cut; the encoder knows an event's span."""
    behavioural_start: bool = False
    """Whether id vectors start at behavioural vectors: a head start on dense logs, overfitting on sparse ones."""
    memory: bool = True
    """Whether the item head adds the evidence of the item-to-item memory."""


class GeneratorConfig(PretrainedConfig):
    """Sizes of a saved generator: the recipe's shape and the catalogue's."""

    model_type = "recsys_generator"

    def __init__(
        self,
        *,
        num_items: int = 1,
        num_codebooks: int = 1,
        codebook_size: int = 2,
        num_categories: int = 1,
        shape: dict[str, Any] | None = None,
        memory_pairs: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        self.num_items = num_items
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.num_categories = num_categories
        self.shape = ModelConfig(**(shape or {})).model_dump()
        self.memory_pairs = list(memory_pairs)
        super().__init__(**kwargs)
