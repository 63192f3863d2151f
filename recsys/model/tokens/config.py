"""Settings of token models: their shape, how they learn, and what they learn from a teacher."""

from typing import Annotated

from pydantic import Field, model_validator

from recsys.core.config import Config, Neutral, require_heads_fit
from recsys.sequence.training import TrainingConfig


class TokenModelConfig(Config):
    """The shape of one token model."""

    width: int = Field(default=128, ge=4)
    """Width of code vectors, of the encoder and of queries."""
    layers: int = Field(default=2, ge=1)
    """Encoder layers."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout inside the encoder."""
    input_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout on the encoder's inputs."""
    max_history: int = Field(default=50, ge=1)
    """How many of the latest events the encoder reads."""
    calendar: int = Field(default=64, ge=1)
    """Into how many spans of equal numbers of training events time is cut; the encoder reads an event's span."""
    scale: float = Field(default=14.0, gt=0)
    """Length of a query before training; the length is learned."""
    transition_width: Annotated[int, Neutral(0)] = Field(default=0, ge=0)
    """Width of the transitions from the latest items' codes to the next item's, a Markov chain in factors (FPMC,
    Rendle et al. 2010) whose logits join those of the encoder's query; 0 leaves them out."""
    transition_events: Annotated[int, Neutral(8)] = Field(default=8, ge=1)
    """How many of the latest events transitions start from; what each counts is learned."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TokenModelConfig":
        require_heads_fit(self.width, self.heads)
        return self


class TokenFitConfig(TrainingConfig):
    """How a token model learns from a log."""

    epochs: int = Field(default=12, ge=1)
    """Passes over the training log; the cosine of the learning rate ends with the last."""
    patience: int = Field(default=2, ge=0)
    """Training ends after so many validations in a row without a new best; 0 never ends early."""
    batch_positions: int = Field(default=2048, ge=1)
    """Padded positions per batch."""
    learning_rate: float = 2e-3
    """Peak of the learning rate, after warm-up and before the cosine decay."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of a step's gradient."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations."""
    shuffle_ties: float = Field(default=0.5, ge=0, le=1)
    """Share of windows in which events with equal timestamps are put in a random order."""
    logit_adjustment: float = Field(default=0.0, ge=0, le=1)
    """How much of an item's popularity training takes off its codes: so many times the log of its events joins its
    logit in the loss and nowhere else (logit adjustment, Menon et al., arXiv 2007.07314): rare items rank higher."""
    sampled_above: int = Field(default=50_000, ge=1)
    """Catalogues larger than this are trained by a sampled softmax with logQ correction."""
    sampled: int = Field(default=8192, ge=1)
    """Items drawn for a batch of the sampled softmax, half of them evenly and half by their training events."""


class DistillationConfig(TrainingConfig):
    """How a token model learns a teacher's item probabilities (Hinton et al., arXiv 1503.02531, at temperature 1)."""

    epochs: int = Field(default=7, ge=0)
    """Passes over the teacher's probabilities; 0 leaves distillation out."""
    patience: int = Field(default=0, ge=0)
    """Training ends after so many validations in a row without a new best; 0 never ends early."""
    batch_positions: int = Field(default=4096, ge=1)
    """Padded positions of histories per batch."""
    learning_rate: float = 1e-3
    """Peak of the learning rate, after warm-up and before the cosine decay."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of a step's gradient."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations."""
    extended: int = Field(default=1, ge=0)
    """How often the teacher also scores each history with one item added, drawn from the teacher's probabilities."""
    kept: int = Field(default=1024, ge=1)
    """The teacher's so many most probable items are kept for each history, renormalised."""
    event_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a history's events that the student does not read; the last event always stays."""
    transition_width: Annotated[int, Neutral(0)] = Field(default=64, ge=0)
    """Width of the transitions that a student gets beside its expert's encoder; an expert that has some keeps its own.
    From the log alone they overfit, from a teacher's probabilities they learn."""
    hard_weight: float = Field(default=0.3, ge=0)
    """Weight of the cross-entropy of the training log's next items beside that of the teacher's probabilities."""
    hard_positions: int = Field(default=1024, ge=1)
    """Training positions a batch for the cross-entropy of next items."""
