"""Settings of the token experts and of how their paths and all other evidence make slates."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from torch import nn

from recsys.core.config import Config, Neutral
from recsys.decoding.config import MarginalSearchConfig
from recsys.model.tokens.config import DistillationConfig, TokenFitConfig, TokenModelConfig
from recsys.recommender.token_experts import HEAD
from recsys.tokenizer.kinds import TokenizerConfig


class ExpertConfig(Config):
    """One token model with codebooks of its own."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """What the expert is called in folders and logs."""
    tokenizer: TokenizerConfig | None = None
    """The tokenizer that gives it its codes; without one it has the codes of the run's catalogue."""
    distilled: bool = True
    """Whether a copy of it goes on to learn from the teacher and stands beside it as an expert of its own."""
    as_new: Annotated[bool, Neutral(False)] = False
    """Whether items have the codes that they would have as new: of their words, and of the behaviour that words let
    expect. Such an expert alone scores items without training events: their codes mean what they meant in training,
    where the other experts know codes by behaviour, of which new items have few."""

    @model_validator(mode="after")
    def _has_codes_of_its_own(self) -> "ExpertConfig":
        if self.as_new and self.tokenizer is None:
            raise ValueError(
                f"expert {self.name} must have a tokenizer of its own where as_new is set, got none: the run's "
                f"catalogue has codes by behaviour"
            )
        return self

    @property
    def student(self) -> str:
        """What its distilled copy is called."""
        return f"{self.name}_student"


class ExpertsConfig(Config):
    """The token models of a run."""

    trained: tuple[ExpertConfig, ...] = ()
    """The experts; a recipe without any trains no token models."""
    model: TokenModelConfig = TokenModelConfig()
    """The shape of every expert."""
    fit: TokenFitConfig = TokenFitConfig()
    """How every expert learns from the log."""

    @field_validator("trained")
    @classmethod
    def _names_differ(cls, trained: tuple[ExpertConfig, ...]) -> tuple[ExpertConfig, ...]:
        names = [name for expert in trained for name in (expert.name, expert.student)]
        if len(set(names)) < len(names) or HEAD in names:
            raise ValueError(
                f"experts and their students (NAME_student) must have names of their own other than {HEAD}, got {names}"
            )
        module = nn.ModuleDict()  # what holds them by name, and keeps the names of its own parts
        if kept := [name for name in names if hasattr(module, name)]:
            raise ValueError(f"experts must have names that torch leaves free, got {kept}; rename them")
        if len(as_new := [expert.name for expert in trained if expert.as_new]) > 1:
            raise ValueError(f"one expert at most may have as_new, which scores new items, got {as_new}")
        return trained


class TokensConfig(Config):
    """How experts are distilled, mixed and searched."""

    teacher: Literal["head", "all"] = "all"
    """The teacher of students: the item head, or its mixture with the experts that ranks best on validation."""
    distillation: DistillationConfig = DistillationConfig()
    """How students learn from the teacher."""
    paths_by: Literal["tokens", "all"] = "all"
    """Whose item probabilities paths are searched by: those of the token models alone, or those of all evidence, which
    ranks what they reach."""
    search: MarginalSearchConfig = MarginalSearchConfig()
    """How paths are searched."""
    weight_steps: int = Field(default=20, ge=1)
    """Weights of experts and of the item head are multiples of one over this number."""
    undistilled_margin: Annotated[float | None, Neutral(None)] = Field(default=None, ge=0)
    """Experts that have a student get no weight, which saves their time, where the rest loses at most this share of
    NDCG@10 on validation without them; without a margin they are kept."""
    new_item_bonus: Annotated[float, Neutral(0.0)] = 0.0
    """What an expert with ``as_new`` adds to the log-probabilities of items without training events: 0 ranks them as
    likely as it finds them, more shows more of them."""
    new_item_share: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0, le=1)
    """The share of a slate's places that is kept for items without training events where an expert has ``as_new``:
    of ``n`` places ``floor(share * n)``, place ``i`` where ``floor(share * i)`` grows, so .2 keeps the 5th, the 10th,
    .... They are for the best of these items alone, and other places are for the others alone, as long as there are
    items of both kinds that the request admits. With 0 they compete by score."""
    new_item_likeness: Annotated[float, Neutral(0.0)] = Field(default=0.0, ge=0)
    """What it counts in kept places, beside a log-probability, to have all codes as new of the user's latest item;
    earlier items count less (:class:`recsys.recommender.shared_codes.SharedCodes`). 0 orders them by log-probability
    alone."""
    max_users: int = Field(default=30_000, ge=1)
    """On how many validation users weights are chosen; a log with fewer takes all."""
    pruning_users: int = Field(default=1000, ge=0)
    """On how many validation users CORP and RPC's Reasoning Pruning are tried; 0 leaves it as in ``search``."""
    theta_quantile: float = Field(default=0.95, gt=0, le=1)
    """CORP's threshold is this quantile of the jumps between categories on validation paths."""
    pruning_margin: float = Field(default=0.0, ge=0)
    """Pruning is kept where the whole 95 % interval of what it gains in NDCG@10 lies above this."""
    min_codebook_weight: float = Field(default=0.2, ge=0, le=1)
    """Smallest share of the heaviest codebooks' weight (that of their experts in the mixture) with which codebooks take
    part in paths; those below take none, so that a path names facets that count. 0 takes all, and ``search.codebooks``
    goes before it."""
    paths_margin: float = Field(default=0.02, ge=0, le=1)
    """Paths propose what is ranked as long as they lose at most this share of the catalogue's NDCG@10 on validation."""
    most_paths: int = Field(default=256, ge=1)
    """Where ``search.num_paths`` lose more, they are doubled up to so many; where these do, the catalogue is ranked."""


def require_scorer_of_new_items(experts: ExpertsConfig, tokens: TokensConfig) -> None:
    """Refuse places for new items where no expert scores them.

    Raises:
        ValueError: there is no such expert; a settings' validator turns this into its own error.
    """
    if tokens.new_item_share and not any(expert.as_new for expert in experts.trained):
        raise ValueError(
            f"tokens.new_item_share must be 0 where no expert scores new items, got {tokens.new_item_share}; set "
            f"as_new = true for one of experts.trained"
        )
    if tokens.new_item_likeness and not tokens.new_item_share:
        raise ValueError(
            f"tokens.new_item_likeness must be 0 where no places are kept for new items, got "
            f"{tokens.new_item_likeness}; set tokens.new_item_share"
        )
