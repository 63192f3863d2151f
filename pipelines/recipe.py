"""A run's complete description: one named TOML file, validated as a whole, with every default filled in."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from pipelines.renamed_keys import RENAMED
from pipelines.update.config import UpdateConfig
from recsys.alignment.config import AlignmentConfig
from recsys.baselines.cooccurrence import CooccurrenceConfig
from recsys.baselines.ensemble import EnsembleConfig
from recsys.baselines.rpg import RPGConfig
from recsys.baselines.sasrec import SASRecConfig
from recsys.baselines.tiger import TIGERConfig
from recsys.core.artifacts import atomic_file
from recsys.core.config import Config, Neutral
from recsys.core.device import Device, Precision
from recsys.core.errors import ConfigError
from recsys.data.prepare import PrepareConfig
from recsys.decoding.config import DecoderConfig
from recsys.evaluation.gate import GateConfig
from recsys.features.assemble import FeatureConfig
from recsys.model.config import FitConfig, ModelConfig
from recsys.recommender.token_config import ExpertsConfig, TokensConfig, require_scorer_of_new_items
from recsys.sequence.id_transformer import IdTransformerConfig
from recsys.tokenizer.kinds import TokenizerConfig
from recsys.tokenizer.quality import QualityConfig

Rival = Literal["popularity", "cooccurrence", "sasrec", "ensemble", "rpg", "tiger"]
"""A baseline's name, in a recipe, in a run's folder and in the report."""

Way = Literal["experts", "tokens", "token paths", "not served", "item head"]
"""Ways to rank in a run with token experts: by each expert alone, by tokens exactly and by paths, by all evidence where
it is not served (over the catalogue, or over what paths reach), and by the item head alone."""


class BaselinesConfig(Config):
    """The rivals trained beside our model."""

    fitted: tuple[Rival, ...] = ("popularity", "cooccurrence", "sasrec")
    """Which rivals a run trains; TIGER takes the longest, the ensemble trains a second SASRec: both on demand."""
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    """Item co-occurrence."""
    sasrec: SASRecConfig | None = None
    """A SASRec with settings of its own; without them SASRec is the ensemble member, evaluated alone."""
    ensemble: EnsembleConfig = EnsembleConfig()
    """Two SASRecs and item co-occurrence: the run's own, and one more by another seed."""
    rpg: RPGConfig = RPGConfig()
    """RPG's scoring: codes by a mean of cross-entropies, on all vectors that our tokenizers read."""
    rpg_tokenizer: TokenizerConfig = TokenizerConfig(kind="opq", num_codebooks=32)
    """The tokenizer of RPG's codes."""
    tiger: TIGERConfig = TIGERConfig()
    """TIGER: semantic ids by residual k-means, and a Transformer that names them."""
    tiger_vectors: Literal["text", "all"] = "text"
    """TIGER's ids come from the text block alone, as published, or from all that our tokenizer reads."""


class SelectionConfig(Config):
    """What is chosen on validation before a bundle is made."""

    keep: Literal["better", "pre-trained", "aligned"] = "better"
    """Which model is served: the better on validation, or always the one that is named (to measure alignment)."""
    path_weights: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1)
    """Weights of the path evidence beside the item head that are tried."""
    margin: float = Field(default=0.001, ge=0)
    """By how much NDCG@10 more path evidence must beat less to be kept; an aligned model has only to be better."""
    theta_quantile: float = 0.95
    """The pruning threshold is this quantile of the JS divergences seen on validation paths."""
    max_users: int = 2000
    """How many validation users the choice is made on."""
    popularity_discount: Annotated[bool, Neutral(False)] = False
    """Whether rare items get what accuracy leaves: an item's logit loses the largest multiple of the log of its
    training events at which the item head's NDCG@10 on validation is that of the pre-trained model, less at most
    ``discount_margin``. What alignment gains so goes to rare items; set ``keep`` to ``aligned`` then."""
    discount_margin: Annotated[float, Neutral(0.005)] = Field(default=0.005, ge=0)
    """The share of NDCG@10 that such a discount may cost on validation."""
    discount_users: Annotated[int, Neutral(20_000)] = Field(default=20_000, ge=1)
    """How many validation users that multiple is chosen on."""


class EvaluationConfig(Config):
    """How a run is evaluated."""

    max_users: int = 0
    """How many users are evaluated, drawn at random; 0 takes all."""
    seen: tuple[Literal["kept", "removed"], ...] = ("kept", "removed")
    """Whether items of the history stay in the ranking; each is one pass over the users."""
    dissect: bool | tuple[str, ...] = False
    """Whether the parts of our ranking are evaluated too, all or those that are named (recommender/parts.py)."""
    ways: Annotated[bool | tuple[Way, ...], Neutral(True)] = False
    """Whether the other ways to rank with token experts are evaluated beside the one that is served, all or some."""


class StudyConfig(Config):
    """Several runs evaluated together; a recipe without seeds is one run."""

    seeds: tuple[int, ...] = ()
    """One run for each; the first is the run that is served."""
    once: tuple[Rival, ...] = ()
    """Rivals that are trained on the first seed only, because they take long; the table says so."""
    ablations: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Variants by name, each the settings it changes as ``section.key=value``; every seed is run for each."""


class Recipe(Config):
    """Everything that decides what a run computes."""

    seed: int = 7
    """Root of all randomness."""
    threads: int = 1
    """Threads of each stage; fixed, so that a run in-process and one on Ray give equal artifacts."""
    workers: int | tuple[int, int] = 1
    """Processes on Ray that train each network together; ``[1, 4]`` takes as many as are free and goes on with fewer.

    All take one step together on shares of the same batches, so the loss curve is that of one but for random draws.
    """
    device: Device = "auto"
    """Where the networks train."""
    precision: Precision = "auto"
    """Arithmetic of the softmax over items in training: ``auto`` is bfloat16 where the processor multiplies it.

    ``ladq`` chooses fp32 or bf16 for each layer of pre-training within the budget of ``fit.ladq``. It measures times,
    so two runs may choose differently.
    """
    data: PrepareConfig = PrepareConfig()
    """Filters on the log."""
    features: FeatureConfig = FeatureConfig()
    """Item vectors."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """Items to codes: experts and codebooks, or a rival."""
    quality: QualityConfig = QualityConfig()
    """Bounds that a tokenizer must keep."""
    member: IdTransformerConfig = IdTransformerConfig()
    """The ensemble member: a SASRec trained apart on ``model.max_history`` events; 0 epochs trains none."""
    further_members: NonNegativeInt = 0
    """How many more members are trained by the same settings and seeds of their own; item logits have their mean."""
    model: ModelConfig = ModelConfig()
    """The generator's shape."""
    fit: FitConfig = FitConfig()
    """Pre-training."""
    experts: ExpertsConfig = ExpertsConfig()
    """Token models that are normalised over the catalogue, each with codebooks of its own."""
    tokens: TokensConfig = TokensConfig()
    """How experts are distilled, mixed and searched."""
    alignment: AlignmentConfig = AlignmentConfig()
    """Reinforcement learning on recommendation rewards."""
    decoder: DecoderConfig = DecoderConfig()
    """Path decoding."""
    selection: SelectionConfig = SelectionConfig()
    """Choices made on validation."""
    baselines: BaselinesConfig = BaselinesConfig()
    """Rivals."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the run is evaluated."""
    study: StudyConfig = StudyConfig()
    """Seeds and ablations."""
    gate: GateConfig = GateConfig()
    """When a release may replace the current one."""
    update: UpdateConfig = UpdateConfig()
    """How a run goes on with a new day."""

    @property
    def worker_range(self) -> tuple[int, int]:
        """The least and the most workers."""
        return (self.workers, self.workers) if isinstance(self.workers, int) else self.workers

    @model_validator(mode="after")
    def _settings_fit(self) -> "Recipe":
        least, most = self.worker_range
        if not 1 <= least <= most:
            raise ValueError("workers must be a number from 1 on, or [least, most] with 1 <= least <= most")
        require_scorer_of_new_items(self.experts, self.tokens)
        return self


def recipe_names() -> list[str]:
    """List the recipes that ship with the package."""
    return sorted(
        path.name.removesuffix(".toml") for path in files("pipelines.recipes").iterdir() if path.name.endswith(".toml")
    )


def load_recipe(name: str = "default", overrides: tuple[str, ...] = ()) -> Recipe:
    """Load a shipped recipe by name or any TOML file by path, then apply ``key.sub=value`` overrides.

    A recipe with ``extends = "NAME"`` has the settings of that one, but for those of its own.

    Raises:
        ConfigError: names every fault of the recipe at once.
    """
    return _validated(_with_base(_read(name), (name,)), overrides, name=name)


def _read(name: str) -> dict[str, Any]:
    """Return the settings of one recipe as its file has them."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.exists():
            raise ConfigError(f"recipe must be a file, but {path} does not exist; shipped recipes are {recipe_names()}")
        text = path.read_text()
    elif name in recipe_names():
        text = files("pipelines.recipes").joinpath(f"{name}.toml").read_text()
    else:
        raise ConfigError(f"recipe must be one of {recipe_names()} or a .toml file, got {name!r}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {name} must be TOML: {error}") from error


def _with_base(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return a recipe's settings over those of the one that it extends; ``names`` are the recipes on the way here."""
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"extends of recipe {names[-1]} must be the name of a recipe or a .toml file, got {base!r}")
    if base in names:
        raise ConfigError(f"recipes must not extend each other in a circle, got {' -> '.join((*names, base))}")
    return _merged(_with_base(_read(base), (*names, base)), values)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings in which ``own`` comes before ``base``; lists are replaced as a whole."""
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def apply_overrides(recipe: Recipe, overrides: tuple[str, ...]) -> Recipe:
    """Return a recipe with ``section.key=value`` settings changed.

    Raises:
        ConfigError: names every fault at once.
    """
    return _validated(recipe.model_dump(mode="json", exclude_none=True), overrides, name="with changes")


def _validated(values: dict[str, Any], overrides: tuple[str, ...], *, name: str) -> Recipe:
    for override in overrides:
        _apply(values, override)
    if old := [key for key in RENAMED if _has(values, key)]:
        renamed = "; ".join(f"{key} is now {RENAMED[key]}" for key in old)
        raise ConfigError(f"recipe {name} must use the keys of this version: {renamed}; rename {', '.join(old)}")
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        raise ConfigError(f"recipe {name} has {error.error_count()} faults: {faults}") from error


def _has(values: dict[str, Any], key: str) -> bool:
    """Return whether nested values hold a dotted key."""
    at: Any = values
    for part in key.split("."):
        if not isinstance(at, dict) or part not in at:
            return False
        at = at[part]
    return True


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set must be key=value, got {override!r}")
    *parents, last = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, every default filled in (TOML has no null, so unset values are left out)."""
    with atomic_file(path) as temporary:
        temporary.write_text(tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)))
