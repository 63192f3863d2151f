"""The generator's settings: its shape in a recipe, and the sizes that are saved with it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from transformers import PretrainedConfig

from recsys.core.config import Config, Neutral, require_heads_fit
from recsys.sequence.id_transformer import IdTransformerConfig


class ModelConfig(Config):
    """The generator's shape."""

    width: PositiveInt = 128
    """Width of item vectors and of the encoder."""
    code_width: PositiveInt = 32
    """Width of one code's embedding; an item concatenates one per codebook."""
    decoder_width: PositiveInt = 512
    """Hidden width of the any-order token decoder."""
    layers: PositiveInt = 2
    """Encoder layers."""
    heads: PositiveInt = 4
    """Attention heads."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout inside the encoder and the token decoder."""
    input_scale: float = 5.0
    """Factor of item vectors before the encoder; without it the layers' output outweighs the item's vector at first."""
    code_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the concatenated code embeddings of an item."""
    item_codes: Annotated[bool, Neutral(True)] = True
    """Whether an item's vector has its codes' embeddings beside its id vector; without them it is the id vector alone,
    which shows what codes are worth and cannot rank new items."""
    max_history: PositiveInt = 50
    """How many of the latest events the encoder reads."""
    calendar: int = Field(default=64, ge=1)
    """Number of calendar spans with equal numbers of training events; the encoder embeds each event's span."""
    behavioural_start: bool = False
    """Whether id vectors start at behavioural vectors; it helps on dense logs and overfits on sparse ones."""
    cooccurrence: bool = True
    """Whether the item head adds the item-item co-occurrence prior."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "ModelConfig":
        require_heads_fit(self.width, self.heads)
        return self


class GeneratorConfig(PretrainedConfig):
    """Sizes of a saved generator, and what was chosen for its item head on validation.

    ``member_share`` is how much of the item logits the ensemble members have together; ``repeat_bias`` is added to the
    logits of what the user already has.
    """

    model_type = "recsys_generator"

    def __init__(  # noqa: PLR0913 (Hugging Face keeps a config as one flat list of values)
        self,
        *,
        num_items: int = 1,
        num_codebooks: int = 1,
        codebook_size: int = 2,
        num_categories: int = 1,
        shape: dict[str, Any] | None = None,
        prior_pairs: Sequence[int] = (),
        members: Sequence[dict[str, Any]] = (),
        member_share: float = 0.0,
        repeat_bias: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.num_items = num_items
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.num_categories = num_categories
        self.shape = ModelConfig(**(shape or {})).model_dump()
        self.prior_pairs = list(prior_pairs)
        self.members = [IdTransformerConfig(**member).model_dump() for member in members]
        self.member_share = member_share
        self.repeat_bias = repeat_bias
        super().__init__(**kwargs)


class LadqConfig(Config):
    """How the precision of each layer is chosen where the recipe's ``precision`` is ``ladq``."""

    warm_up: int = Field(default=20, ge=0)
    """Steps in fp32 before the first choice: gradients of fresh weights say little."""
    every: int = Field(default=200, ge=1)
    """Steps between choices."""
    budget: float = Field(default=0.001, ge=0)
    """By what share of the loss the layers in bf16 may be expected to raise it together, and may move it on a batch."""
    repeats: int = Field(default=3, ge=1)
    """How often a layer is timed in each precision; the median counts."""


class PruningConfig(Config):
    """Which part of the log the generator trains on, and the teacher whose probabilities are in its targets."""

    keep: float = Field(default=1.0, gt=0, le=1)
    """Share of users that are trained on."""
    prefer: Literal["hard", "easy", "random"] = "hard"
    """Which users to keep: those on whose events the teacher's loss is highest, or lowest, or random ones."""
    distillation: float = Field(default=0.0, ge=0, le=1)
    """Share of the teacher's item probabilities in a target; the rest is the item that came next."""
    teacher: str = ""
    """Folder of a run of the same items, whose generator was trained on the whole log. Where the run changes, stages
    that were made with it do not: give the changed run another name."""

    @model_validator(mode="after")
    def _has_teacher(self) -> "PruningConfig":
        needs_teacher = self.distillation > 0 or (self.keep < 1 and self.prefer != "random")
        if needs_teacher and not self.teacher:
            raise ValueError(
                "fit.pruning.teacher must name a run where users are kept by difficulty or a teacher's probabilities "
                "are learned, got none; train in full first and give that run's folder"
            )
        return self


class FitConfig(Config):
    """How the generator is pre-trained."""

    epochs: NonNegativeInt = 4
    """Passes over the training part."""
    final_epochs: int = Field(default=2, ge=0)
    """Passes of the final phase, over the latest events of histories alone: the positions that are served, with equal
    weight for short and long histories."""
    final_events: int = Field(default=3, ge=1)
    """How many latest events of a window the final phase learns."""
    learning_rate: PositiveFloat = 1.5e-3
    """Peak learning rate of AdamW, after a warm-up of a twentieth of the steps, then a cosine to zero."""
    final_rate: float = Field(default=0.2, gt=0, le=1)
    """Peak of the final phase, as a share of the learning rate, with a warm-up and a cosine of its own."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""
    batch_positions: PositiveInt = 1024
    """Training positions a batch."""
    shuffle_ties: float = Field(default=0.5, ge=0, le=1)
    """Share of windows in which events with equal timestamps are put in a random order."""
    token_weight: NonNegativeFloat = 0.5
    """Weight of the any-order token loss beside the item head's loss of weight 1."""
    distillation: float = Field(default=0.5, ge=0, le=1)
    """Share of the item head's probabilities in a token's target; the rest is the true item's code."""
    category_weight: NonNegativeFloat = 0.1
    """Weight of the category loss (lambda in the paper)."""
    token_share: float = Field(default=0.5, ge=0, le=1)
    """Share of positions that the token decoder is trained on in each batch."""
    sampled_above: int = Field(default=50_000, ge=1)
    """In catalogues larger than this the item loss is a sampled softmax with logQ correction, and only the vectors of
    the batch's own and the drawn items are computed."""
    sampled: int = Field(default=8192, ge=1)
    """Items drawn for a batch of the sampled softmax, half of them evenly and half by their training events."""
    pruning: PruningConfig = PruningConfig()
    """Training on a part of the log."""
    ladq: LadqConfig = LadqConfig()
    """Precision by layer, used where the recipe's ``precision`` is ``ladq``."""
    prior_folds: int = Field(default=8, ge=2)
    """Number of folds of users; each learns with a prior counted without its own pairs."""
    depths: tuple[float, ...] = (0.45, 0.35, 0.2)
    """Shares of training paths with 0, 1, 2 ... tokens already chosen; on deeper paths few items are left."""
